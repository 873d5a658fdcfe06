//! `history`: messages of the archive (XEP-0313).

use super::args::HistoryArgs;
use super::error::CliError;
use super::show::Out;
use crate::client::XmppClient;
use crate::ext::mam::{self, Archived, Bounds, Order, Page, Query};
use serde_json::Value;
use xmpp_stream::payload::delay;

/// Messages of a page: large ones save round trips.
const PAGE: u32 = 100;

pub(super) async fn history(
    client: &XmppClient,
    args: &HistoryArgs,
    out: &Out,
) -> Result<(), CliError> {
    let query = Query {
        with: args.with.clone(),
        order: match args.export {
            true => Order::OldestFirst,
            false => Order::NewestFirst,
        },
        ..Query::default()
    };
    let bounds = Bounds {
        page: PAGE,
        total: match args.export {
            true => usize::MAX,
            false => args.limit,
        },
    };
    let mut pages = mam::pages(client, args.room.as_ref(), query, bounds).await?;
    let mut newest = Vec::new();
    let mut done = 0;
    while let Some(page) = pages.next().await? {
        done += page.messages.len();
        if args.export {
            print(&page.messages, out)?;
            progress(out, done, &page);
        } else {
            // Pages come from the newest backwards; what is printed goes forwards.
            newest.push(page.messages);
        }
    }
    for page in newest.iter().rev() {
        print(page, out)?;
    }
    if args.export {
        out.progress(&format!("{done} messages\n"));
    }
    Ok(())
}

fn progress(out: &Out, done: usize, page: &Page) {
    let text = match page.count {
        Some(count) => format!("{done} of {count} messages"),
        None => format!("{done} messages"),
    };
    out.progress(&text);
}

fn print(messages: &[Archived], out: &Out) -> Result<(), CliError> {
    for archived in messages {
        let mut fields = super::show::fields(&archived.message);
        fields.insert("archive_id".into(), archived.id.as_str().into());
        let mut text = super::show::text(&archived.message);
        if let Some(stamp) = archived.stamp {
            let stamp = delay::stamp(stamp);
            text = format!("{stamp} {text}");
            fields.insert("stamp".into(), stamp.into());
        }
        out.line(&Value::Object(fields), &text)?;
    }
    Ok(())
}
