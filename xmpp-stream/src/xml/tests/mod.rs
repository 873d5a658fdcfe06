//! What the reader accepts, refuses and writes, each row at every byte split.

use super::super::assemble::growth_max;
use super::*;
use crate::error::StanzaCondition::{BadRequest, JidMalformed, PolicyViolation};
use crate::error::StreamCondition;
use crate::stanza::{Stanza, Ty};

mod limits;
mod plain;
mod property;
mod rows;
mod stanzas;

const OPEN: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
                    xmlns:stream='http://etherx.jabber.org/streams' to='d' version='1.0'>";

/// Frames (and the error that ended them) as texts that can be compared.
fn run(reader: &mut Reader, chunks: &[&[u8]]) -> Vec<String> {
    let mut seen = Vec::new();
    for chunk in chunks {
        let mut data = *chunk;
        loop {
            match reader.next(&mut data) {
                Ok(Some(frame)) => seen.push(show(&frame)),
                Ok(None) => break,
                Err(error) => {
                    seen.push(format!("error {error:?}"));
                    return seen;
                }
            }
        }
    }
    seen
}

fn show(frame: &Frame) -> String {
    match frame {
        Frame::Header(header) => format!("header {header:?}"),
        Frame::Stanza(stanza) => format!("{} {:?}", stanza.to_xml(), stanza.kids),
        Frame::Refused(refused) => {
            format!(
                "refused {:?} {:?} {:?}",
                refused.kind, refused.condition, refused.head.id
            )
        }
        Frame::Nonza(element) => format!("nonza {}", element.to_xml("")),
        Frame::Footer => "footer".to_owned(),
    }
}

fn reader() -> Reader {
    Reader::new(XmlLimits::c2s(), ns::CLIENT)
}

/// Everything behind the header, the same at every split in two and byte by byte.
#[track_caller]
fn frames(body: &str) -> Vec<String> {
    frames_of(
        &[OPEN.as_bytes(), body.as_bytes()].concat(),
        XmlLimits::c2s(),
    )
}

#[track_caller]
fn frames_of(all: &[u8], limits: XmlLimits) -> Vec<String> {
    let new = || Reader::new(limits, ns::CLIENT);
    let whole = run(&mut new(), &[all]);
    if all.len() < 4096 {
        for at in 0..all.len() {
            let (left, right) = all.split_at(at);
            assert_eq!(run(&mut new(), &[left, right]), whole, "split at {at}");
        }
    }
    let single: Vec<&[u8]> = all.chunks(1).collect();
    assert_eq!(run(&mut new(), &single), whole, "byte by byte");
    whole
        .into_iter()
        .filter(|frame| !frame.starts_with("header"))
        .collect()
}

/// One stanza in, its canonical form out.
#[track_caller]
fn check(input: &str, want: &str) {
    let got = frames(input);
    assert_eq!(got.len(), 1, "{input}: {got:?}");
    assert!(
        got[0].starts_with(&format!("{want} [")),
        "{input}\n got {}\nwant {want}",
        got[0]
    );
}

#[track_caller]
fn check_error(input: &str, want: XmlError) {
    assert_eq!(frames(input), [format!("error {want:?}")], "{input}");
}

#[track_caller]
fn check_refused(input: &str, want: StanzaCondition) {
    let got = frames(&format!("{input}<presence/>"));
    let head = got.first().map(String::as_str).unwrap_or_default();
    assert!(
        head.starts_with("refused") && head.contains(&format!("{want:?}")),
        "{input}: {got:?}"
    );
    assert_eq!(
        got.get(1).map(String::as_str),
        Some("<presence/> []"),
        "the stream goes on"
    );
}

#[track_caller]
fn header_of(text: &str) -> Header {
    match reader().next(&mut text.as_bytes()).unwrap() {
        Some(Frame::Header(header)) => header,
        other => panic!("no header: {other:?}"),
    }
}
