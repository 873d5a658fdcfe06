//! User commands over a socket, over the store, and against each other.

use super::ask::request as ask;
use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::datadir::tests::TempDir;
use crate::store::Store;
use crate::users::Stopped;
use std::os::unix::fs::MetadataExt;

fn config(dir: &Path) -> Config {
    let mut config = Config::default_zero()
        .with_domain("a.test")
        .unwrap()
        .in_dir(dir);
    config.sasl.scram_iterations = 4096;
    config
}

/// A server as far as the control socket knows one; it serves a.test only.
fn start(dir: &Path) -> (DataDir, JoinHandle<()>) {
    let lock = DataDir::open(dir).unwrap();
    let mut config = config(dir);
    config.file = Some("x.toml".into());
    let stopped = Stopped::new(Store::memory(), &config, &Clock::start());
    let limits = Limits {
        admin_connections_max: 2,
        ..config.limits
    };
    let task = serve_users(&lock, Users::Stopped(Arc::new(stopped)), limits).unwrap();
    (lock, task)
}

fn add(jid: &str) -> Request {
    Request::UserAdd {
        jid: jid.into(),
        password: "secret".into(),
    }
}

const LIST: Request = Request::UserList {
    domain: None,
    bans: true,
};

/// The names in an answer; one that is banned has a mark and the reason behind it.
async fn request(config: &Config, request: Request) -> Result<Vec<String>, AdminError> {
    let show = |account: Value| {
        let text = |key: &str| account[key].as_str().unwrap_or_default().to_owned();
        match account["banned"].as_bool() {
            Some(true) => format!("{}! {}", text("jid"), text("reason")),
            _ => text("jid"),
        }
    };
    let answer = ask(config, request).await?;
    Ok(answer.into_iter().map(show).collect())
}

#[tokio::test]
async fn commands_go_through_the_socket_of_a_running_server() {
    let temp = TempDir::new();
    let (_lock, task) = start(&temp.0);
    let config = config(&temp.0);
    let socket = std::fs::metadata(temp.0.join("admin.sock")).unwrap();
    assert_eq!(socket.mode() & 0o777, 0o600);
    assert_eq!(request(&config, LIST).await.unwrap(), [""; 0]);
    for jid in ["ben@a.test", "Ann@a.test"] {
        assert_eq!(request(&config, add(jid)).await.unwrap(), [""; 0]);
    }
    assert_eq!(
        request(&config, LIST).await.unwrap(),
        ["ann@a.test", "ben@a.test"]
    );
    let change = Request::UserPassword {
        jid: "ann@a.test".into(),
        password: "x".into(),
    };
    request(&config, change).await.unwrap();
    let remove = Request::UserRemove {
        jid: "ann@a.test".into(),
    };
    request(&config, remove.clone()).await.unwrap();
    assert_eq!(request(&config, LIST).await.unwrap(), ["ben@a.test"]);
    let ben = || "ben@a.test".to_owned();
    for reason in [None, Some("spam".to_owned())] {
        let ban = Request::UserBan { jid: ben(), reason };
        request(&config, ban).await.unwrap();
    }
    let banned = ["ben@a.test! spam"];
    assert_eq!(request(&config, LIST).await.unwrap(), banned);
    let unban = Request::UserUnban { jid: ben() };
    request(&config, unban).await.unwrap();
    assert_eq!(request(&config, LIST).await.unwrap(), ["ben@a.test"]);

    let refused = async |asked| request(&config, asked).await.unwrap_err().to_string();
    assert_eq!(refused(remove).await, "there is no such account");
    for op in [
        Request::UserUnban {
            jid: "ann@a.test".into(),
        },
        Request::UserBan {
            jid: "ann@a.test".into(),
            reason: None,
        },
    ] {
        assert_eq!(refused(op).await, "there is no such account");
    }
    assert_eq!(
        refused(add("ben@a.test")).await,
        "the account exists already"
    );
    let served = "this server does not serve the domain";
    assert_eq!(refused(add("ben@other.test")).await, served);
    assert_eq!(refused(add("ben")).await, "not the name of an account");
    assert!(!temp.0.join("server.db").exists());
    task.abort();
}

#[tokio::test]
async fn without_a_server_the_store_is_opened_under_the_lock() {
    let temp = TempDir::new();
    let config = config(&temp.0.join("data"));
    let empty = request(&config, LIST).await.unwrap_err();
    assert!(matches!(empty, AdminError::Empty(_)), "{empty}");
    assert!(!config.data_dir().exists());
    request(&config, add("ann@a.test")).await.unwrap();
    assert!(config.data_dir().join("server.db").exists());
    assert_eq!(request(&config, LIST).await.unwrap(), ["ann@a.test"]);
    // The lock is free again; a socket that a killed server left does not matter to anyone.
    drop(std::os::unix::net::UnixListener::bind(config.data_dir().join("admin.sock")).unwrap());
    assert_eq!(request(&config, LIST).await.unwrap(), ["ann@a.test"]);
    let (_lock, task) = start(config.data_dir());
    assert_eq!(request(&config, LIST).await.unwrap(), [""; 0]);
    task.abort();
}

#[tokio::test]
async fn memory_storage_needs_the_server() {
    let temp = TempDir::new();
    let nowhere = config(&temp.0.join("data")).memory();
    let error = request(&nowhere, add("ann@a.test")).await.unwrap_err();
    assert!(matches!(error, AdminError::NotRunning(_)));
    assert!(!nowhere.data_dir().exists());
    let config = config(&temp.0).memory();
    let error = request(&config, add("ann@a.test")).await.unwrap_err();
    assert!(matches!(error, AdminError::NotRunning(_)));
    assert!(
        error
            .to_string()
            .starts_with("with `memory` storage accounts live in"),
        "{error}"
    );
    let (_lock, task) = start(&temp.0);
    request(&config, add("ann@a.test")).await.unwrap();
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_held_lock_without_a_socket_is_waited_for() {
    let temp = TempDir::new();
    let config = config(&temp.0);
    let lock = DataDir::open(&temp.0).unwrap();
    let error = request(&config, LIST).await.unwrap_err().to_string();
    assert!(
        error.contains("is in use by a running server (pid "),
        "{error}"
    );
    let asking = {
        let config = config.clone();
        tokio::spawn(async move { request(&config, LIST).await })
    };
    tokio::task::yield_now().await;
    assert!(!asking.is_finished());
    drop(lock);
    assert_eq!(asking.await.unwrap().unwrap(), [""; 0]);
}

async fn talk(stream: &mut UnixStream, line: &str) -> String {
    stream.write_all(line.as_bytes()).await.unwrap();
    let mut read = BufReader::new(stream);
    let line = read_line(&mut read, 10_000).await.unwrap();
    line.map_or_else(String::new, |line| String::from_utf8(line).unwrap())
}

#[tokio::test]
async fn lines_that_are_no_request() {
    let temp = TempDir::new();
    let (_lock, task) = start(&temp.0);
    let mut stream = UnixStream::connect(temp.0.join("admin.sock"))
        .await
        .unwrap();
    let mut check = async |line: &str, want: &str| {
        assert_eq!(talk(&mut stream, line).await, want, "{line}");
    };
    let no = r#"{"failed":"not a request of this protocol"}"#;
    check("\n", no).await;
    check("{}\n", no).await;
    check("user list\n", no).await;
    let unknown = r#"{"failed":"not a request that this server knows"}"#;
    check("{\"v\":2,\"op\":\"stop\"}\n", unknown).await;
    check("{\"v\":2,\"op\":\"user-list\",\"domains\":1}\n", unknown).await;
    let version = r#"{"failed":"this server speaks version 2"}"#;
    check("{\"v\":1,\"op\":\"user-list\"}\n", version).await;
    check("{\"v\":2,\"op\":\"user-list\"}\n", r#"{"done":{"v":2}}"#).await;
    let long = "x".repeat(Limits::default().admin_line_bytes_max);
    check(&long, r#"{"failed":"the line is too long"}"#).await;
    check("", "").await;
    task.abort();
}

#[tokio::test]
async fn connections_over_the_bound_wait() {
    let temp = TempDir::new();
    let (_lock, task) = start(&temp.0);
    let connect = || UnixStream::connect(temp.0.join("admin.sock"));
    let list = "{\"v\":2,\"op\":\"user-list\"}\n";
    let (mut one, mut two) = (connect().await.unwrap(), connect().await.unwrap());
    talk(&mut one, list).await;
    talk(&mut two, list).await;
    let mut three = connect().await.unwrap();
    three.write_all(list.as_bytes()).await.unwrap();
    // The first two are still served; the third has nothing until one of them goes.
    assert!(talk(&mut one, list).await.contains("done"));
    let mut byte = [0];
    assert!(three.try_read(&mut byte).is_err());
    drop(two);
    assert!(talk(&mut three, "").await.contains("done"));
    task.abort();
}
