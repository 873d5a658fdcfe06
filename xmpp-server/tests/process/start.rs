//! Start: what stdout says, what it listens on, what refuses to start.

use crate::kit::{
    BINARY, BOUND, Ended, Process, Ready, Temp, binary, check_done, check_failed, json, names, now,
    ready, run, server, server_with_file, user, user_with,
};
use crate::peer::{Peer, connect, header};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn stdout_has_a_line_a_listener_then_ready() {
    let temp = Temp::new();
    for _ in 0..2 {
        let mut process = server(&temp.data(), &["--listen", "127.0.0.2:0"]);
        let lines = process.until_ready();
        let (names, addresses): (Vec<_>, Vec<SocketAddr>) = lines
            .iter()
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(name, address)| (name, address.parse::<SocketAddr>().unwrap()))
            .unzip();
        let want = [
            "listening c2s-starttls",
            "listening c2s-starttls",
            "listening c2s-tls",
        ];
        assert_eq!(
            names, want,
            "in this order, and no guide when a listener was named"
        );
        assert!(
            addresses.iter().all(|address| address.port() != 0),
            "{addresses:?}"
        );
        for address in &addresses {
            connect(*address);
        }
        process.signal("TERM");
        let ended = process.end();
        assert_eq!(
            (ended.code, &*ended.stdout),
            (Some(0), ""),
            "nothing behind `ready`"
        );
    }
}

#[test]
fn the_guide_stands_at_the_first_start_with_nothing_configured() {
    let temp = Temp::new();
    let start = || Process::spawn(&mut binary(&temp.data()));
    let held: Vec<_> = zero_addresses()
        .into_iter()
        .map(TcpListener::bind)
        .collect();
    if held.iter().any(Result::is_ok) {
        // A start that failed is none.
        check_failed(&start().end(), &["cannot listen on ", ":522"]);
        check_failed(&start().end(), &["cannot listen on ", ":522"]);
    }
    let isolated = alone(BINARY, true).is_some();
    if !isolated && held.iter().any(Result::is_err) {
        eprintln!("another program has a default port: the guide cannot be looked at");
        return;
    }
    drop(held);
    let start = || match alone(BINARY, true) {
        Some(mut command) => Process::spawn(command.arg("--data").arg(temp.data())),
        None => start(),
    };
    let mut first = start();
    let text = first.until_ready();
    let listening = text
        .iter()
        .position(|line| line.starts_with("listening "))
        .unwrap();
    let (guide, listeners) = text.split_at(listening);
    assert!((10..=14).contains(&guide.len()), "a dozen lines: {text:#?}");
    let words = guide.join("\n");
    let ca = temp.data().join("ca/ca.pem").display().to_string();
    let data = temp.data().display().to_string();
    for wanted in [
        "127.0.0.1:5222",
        "127.0.0.1:5223",
        &ca,
        &data,
        "trust",
        "user add",
        "Gajim",
    ] {
        assert!(words.contains(wanted), "{wanted}: {words}");
    }
    let mut want: Vec<_> = zero_addresses()
        .iter()
        .map(|address| match address.port() {
            5222 => format!("listening c2s-starttls {address}"),
            _ => format!("listening c2s-tls {address}"),
        })
        .collect();
    want.sort();
    let mut got = listeners.to_vec();
    got.sort();
    assert_eq!(got, want, "loopback only");
    first.signal("TERM");
    assert_eq!(first.end().code, Some(0));
    let mut second = start();
    let lines = second.until_ready();
    assert!(
        lines.iter().all(|line| line.starts_with("listening ")),
        "{lines:#?}"
    );
}

/// What a server without configuration listens on, on this machine.
fn zero_addresses() -> Vec<SocketAddr> {
    let ipv6 = alone("true", true).is_some() || TcpListener::bind("[::1]:0").is_ok();
    let hosts = ["127.0.0.1", "[::1]"]
        .into_iter()
        .filter(|host| ipv6 || *host != "[::1]");
    let both = hosts.flat_map(|host| [5222, 5223].map(|port| format!("{host}:{port}")));
    both.map(|address| address.parse().unwrap()).collect()
}

#[test]
fn a_taken_port_is_named() {
    let temp = Temp::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for option in ["--listen", "--listen-tls"] {
        let mut command = binary(&temp.data());
        if option == "--listen-tls" {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        check_failed(
            &run(command.args([option, &address])),
            &["cannot listen on", &address],
        );
        assert!(!temp.data().join("addresses.json").exists());
        assert!(!temp.data().join("admin.sock").exists());
    }
    drop(taken);
    let mut command = binary(&temp.data());
    let again = Ready::new(Process::spawn(command.args(["--listen", &address])));
    assert_eq!(again.starttls().to_string(), address);
    again.stop();
}

#[test]
fn the_soft_limit_of_open_files_is_raised() {
    let temp = Temp::new();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -S -n 256 && exec \"$0\" \"$@\"",
        BINARY,
        "--data",
    ]);
    command.arg(temp.data()).args(["--listen", "127.0.0.1:0"]);
    let server = Ready::new(Process::spawn(&mut command));
    let path = format!("/proc/{}/limits", server.process.pid());
    let limits = fs::read_to_string(path).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "soft and hard: {line}");
    server.stop();
}

#[test]
fn any_address_serves_ipv4_too() {
    let temp = Temp::new();
    let mut command = binary(&temp.data());
    let server = Ready::new(Process::spawn(command.args(["--listen", "[::]:0"])));
    let address = server.starttls();
    assert!(address.ip().is_unspecified(), "{address}");
    let mut stream = connect((Ipv4Addr::LOCALHOST, address.port()).into());
    stream.write_all(header("localhost").as_bytes()).unwrap();
    assert!(stream.read(&mut [0; 16]).unwrap() > 0);
    server.stop();
}

#[test]
fn the_log_is_on_stderr_and_has_no_colours() {
    let temp = Temp::new();
    let mut server = ready(&temp.data(), &["--log", "debug"]);
    drop(connect(server.starttls()));
    server.process.log("connection accepted");
    let ended = server.stop();
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.contains("shutting down"), "{ended:?}");
    assert!(!ended.stderr.contains('\u{1b}'), "{ended:?}");
}

#[test]
fn a_reader_of_stdout_that_went_away_is_no_reason_to_end() {
    let temp = Temp::new();
    // Its stdout is a pipe whose reader is gone before it writes.
    let script = "\"$0\" --data \"$1\" --listen 127.0.0.1:0 run | :; true";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, BINARY])
        .arg(temp.data())
        .stdin(Stdio::null());
    let mut shell = shell.stderr(Stdio::null()).spawn().unwrap();
    let accounts = wait_for_socket(&temp.data());
    assert!(shell.try_wait().unwrap().is_none(), "the server runs");
    check_done(&accounts, "");
    let addresses = fs::read_to_string(temp.data().join("addresses.json")).unwrap();
    let pid = json(&addresses)["pid"].to_string();
    // A grandchild, by the number that it has written itself.
    assert!(
        Command::new("sh")
            .args(["-c", "kill \"$0\"", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert!(shell.wait().unwrap().success());
}

/// Lists accounts through the socket of a server that starts just now.
fn wait_for_socket(data: &Path) -> Ended {
    let start = now();
    loop {
        let socket = data.join("admin.sock");
        if std::os::unix::net::UnixStream::connect(socket).is_ok()
            && data.join("addresses.json").exists()
        {
            return user(data, &["list"]);
        }
        assert!(start.elapsed() < BOUND, "no socket");
        std::thread::yield_now();
    }
}

#[test]
fn several_domains_and_a_client_over_both_kinds_of_tls() {
    let temp = Temp::new();
    let server = ready(&temp.data(), &["--domain", "a.test", "--domain", "B.test"]);
    let ca = temp.data().join("ca/ca.pem");
    for domain in ["a.test", "b.test"] {
        let jid = format!("ann@{domain}");
        let added = user_with(&temp.data(), &["add", &jid, "--password-stdin"], "secret\n");
        check_done(&added, "");
        Peer::sign_in(server.starttls(), &ca, &jid, "secret").unwrap();
        let mut direct = Peer::direct(server.tls(), domain, &ca).unwrap();
        direct.send(&header(domain));
        direct.until("</stream:features>");
    }
    let certs = ["a.test.key", "a.test.pem", "b.test.key", "b.test.pem"];
    assert_eq!(
        names(&temp.data().join("certs")),
        certs,
        "localhost is not served"
    );
    server.stop();
}

#[test]
fn registration_is_open_to_loopback_peers_without_a_file() {
    const FEATURE: &str = "http://jabber.org/features/iq-register";
    let temp = Temp::new();
    let server = ready(&temp.data(), &[]);
    let ca = temp.data().join("ca/ca.pem");
    let mut peer = Peer::starttls(server.starttls(), "localhost", &ca).unwrap();
    peer.send(&header("localhost"));
    assert!(peer.until("</stream:features>").contains(FEATURE));
    peer.send(
        "<iq type='set' id='r'><query xmlns='jabber:iq:register'>\
         <username>ann</username><password>secret</password></query></iq>",
    );
    let answer = peer.until("/>");
    assert!(
        answer.contains("type='result'") && answer.contains("id='r'"),
        "{answer}"
    );
    drop(peer);
    check_done(&user(&temp.data(), &["list"]), "ann@localhost\n");
    Peer::sign_in(server.starttls(), &ca, "ann@localhost", "secret").unwrap();
    server.stop();
    let text = "data_dir = \"data\"\n[c2s]\nlisten = [\"127.0.0.1:0\"]\nlisten_tls = []\n\
                [s2s]\nenabled = false\n";
    let server = Ready::new(server_with_file(&temp.write("x.toml", text)));
    let mut peer = Peer::starttls(server.starttls(), "localhost", &ca).unwrap();
    peer.send(&header("localhost"));
    assert!(
        !peer.until("</stream:features>").contains(FEATURE),
        "closed with a file"
    );
    drop(peer);
    server.stop();
}

/// A program in a network of its own, where the default ports are free; `None` where that is not
/// allowed.
fn alone(program: &str, ipv6: bool) -> Option<Command> {
    let off = u8::from(!ipv6);
    let script = format!(
        "ip link set lo up && echo {off} > /proc/sys/net/ipv6/conf/all/disable_ipv6 && \
         exec \"$0\" \"$@\""
    );
    let command = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", &script, program]);
        command
    };
    let works = command("true").stderr(Stdio::null()).status();
    works
        .is_ok_and(|status| status.success())
        .then(|| command(program))
}

#[test]
fn without_ipv6_its_loopback_address_is_left_out() {
    let Some(mut command) = alone(BINARY, false) else {
        eprintln!("no network namespaces here: left out");
        return;
    };
    let temp = Temp::new();
    let mut process = Process::spawn(command.arg("--data").arg(temp.data()));
    let lines = process.until_ready();
    let listening: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("listening"))
        .collect();
    let want = [
        "listening c2s-starttls 127.0.0.1:5222",
        "listening c2s-tls 127.0.0.1:5223",
    ];
    assert_eq!(listening, want);
    assert!((12..=16).contains(&lines.len()), "with a guide: {lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("::1")), "{lines:#?}");
    process.signal("TERM");
    let ended = process.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for address in ["[::1]:5222", "[::1]:5223"] {
        let named = ended
            .stderr
            .lines()
            .filter(|line| line.contains(address))
            .count();
        assert_eq!(named, 1, "{address}: {ended:?}");
    }
}
