//! Imports into a store, and what stands in the accounts then.

use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::datadir::tests::TempDir;
use crate::store::Store;
use crate::users::account_name;

const ITERATIONS: u32 = 4096;

#[derive(Default)]
struct Told(Vec<String>);

impl Telling for Told {
    fn bad(&mut self, line: u64, why: &dyn fmt::Display) {
        self.0.push(format!("{line}: {why}"));
    }

    fn progress(&mut self, _: &Report, _: u64) {}
}

/// A data directory whose store is opened by each import.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new())
    }

    fn config(&self) -> Config {
        let mut config = Config::default_zero()
            .with_domain("a.test")
            .unwrap()
            .in_dir(self.0.0.join("data"));
        config.sasl.scram_iterations = ITERATIONS;
        config.file = Some("x.toml".into());
        config
    }

    async fn import(&self, text: &str) -> (String, Vec<String>) {
        let file = self.0.0.join("users.csv");
        std::fs::write(&file, text).unwrap();
        let request = Request::UserImport {
            accounts: Vec::new(),
        };
        let mut admin = Admin::open(&self.config(), &request).await.unwrap();
        let mut told = Told::default();
        let report = import(&file, &mut admin, ITERATIONS, &mut told).await;
        admin.close().await;
        (report.unwrap().to_string(), told.0)
    }

    /// The keys of an account.
    async fn keys(&self, jid: &str) -> Vec<StoredKeys> {
        let store = Store::open_sqlite(
            &self.config().data_dir().join("server.db"),
            &Default::default(),
        )
        .unwrap();
        let account = account_name(jid).unwrap();
        let record = store.account(&account).await.unwrap().unwrap();
        store.close().await;
        assert!(Clock::start().unix_secs() - record.created < 1000);
        let keys = record.keys.iter();
        keys.map(|keys| StoredKeys::clone(keys)).collect()
    }
}

fn key_line(jid: &str, hash: ScramHash, password: &str) -> String {
    let keys = StoredKeys::derive(hash, password, b"salt of another", ITERATIONS + 1);
    let text = KeyText::of(&keys);
    format!(
        "{jid},{},{},{},{},{}\n",
        text.hash, text.iterations, text.salt, text.stored_key, text.server_key
    )
}

#[tokio::test]
async fn passwords_become_keys_for_every_hash() {
    let place = Place::new();
    let text = "jid,password\nann@a.test,one\nben@a.test,\"t,wo\"\n";
    let (report, told) = place.import(text).await;
    assert_eq!((&*report, told.len()), ("2 added, 0 unchanged", 0));
    for (jid, password) in [("ann@a.test", "one"), ("ben@a.test", "t,wo")] {
        let keys = place.keys(jid).await;
        assert_eq!(keys.len(), 3, "{jid}");
        assert!(
            keys.iter().all(|keys| keys.verify_password(password)),
            "{jid}"
        );
        assert!(
            keys.iter().all(|keys| keys.iterations == ITERATIONS),
            "{jid}"
        );
    }
}

#[tokio::test]
async fn keys_of_another_server_are_taken_as_they_are() {
    let place = Place::new();
    let text = key_line("ann@a.test", ScramHash::Sha1, "one")
        + &key_line("ann@a.test", ScramHash::Sha256, "one")
        + &key_line("ben@a.test", ScramHash::Sha512, "two");
    let (report, told) = place.import(&text).await;
    assert_eq!((&*report, told.len()), ("2 added, 0 unchanged", 0));
    let ann = place.keys("ann@a.test").await;
    let hashes: Vec<_> = ann.iter().map(|keys| keys.hash).collect();
    assert_eq!(hashes, [ScramHash::Sha1, ScramHash::Sha256]);
    assert!(ann.iter().all(|keys| keys.verify_password("one")));
    assert!(ann.iter().all(|keys| &*keys.salt == b"salt of another"));
    let ben = place.keys("ben@a.test").await;
    assert!(ben.len() == 1 && ben[0].verify_password("two"));
}

#[tokio::test]
async fn the_same_file_again_changes_nothing_and_a_longer_one_adds_the_rest() {
    let place = Place::new();
    let some = "ann@a.test,one\nben@a.test,two\n";
    place.import(some).await;
    let before = place.keys("ann@a.test").await;
    let (report, _) = place.import(some).await;
    assert_eq!(report, "0 added, 2 unchanged");
    // What interrupted the first time ended behind ben.
    let all = format!("{some}cat@a.test,three\n");
    let (report, _) = place.import(&all.replace("one", "other")).await;
    assert_eq!(report, "1 added, 2 unchanged");
    assert!(place.keys("ann@a.test").await == before);
}

#[tokio::test]
async fn what_is_bad_is_told_and_stops_nothing() {
    let place = Place::new();
    let text = "ann@a.test,one\nben@b.test,two\nann@a.test,x\nx\ncat@a.test,three\n";
    let (report, told) = place.import(text).await;
    assert_eq!(report, "2 added, 0 unchanged, 3 failed");
    let want = [
        "3: the account stands further up already",
        "4: 1 columns; expected jid,password or jid,hash,iterations,salt,stored_key,server_key",
        "2: this server does not serve the domain",
    ];
    assert_eq!(told, want);
    place.keys("cat@a.test").await;
}

#[tokio::test]
async fn many_accounts_fit_their_requests() {
    let place = Place::new();
    let line = key_line("J@a.test", ScramHash::Sha512, "x");
    let text: String = (0..1000)
        .map(|number| line.replace("J@", &format!("u{number}@")))
        .collect();
    let (report, told) = place.import(&text).await;
    assert_eq!((&*report, told.len()), ("1000 added, 0 unchanged", 0));
    let (report, _) = place.import(&text).await;
    assert_eq!(report, "0 added, 1000 unchanged");
}

#[test]
fn a_request_has_room_for_one_at_least() {
    let mut room = Room {
        bytes: 100,
        is_empty: true,
    };
    let fits: Vec<_> = [500, 1].iter().map(|bytes| room.fits(*bytes)).collect();
    assert_eq!(fits, [true, false]);
    let mut room = Room {
        bytes: 100,
        is_empty: true,
    };
    let fits: Vec<_> = [60, 40, 1].iter().map(|bytes| room.fits(*bytes)).collect();
    assert_eq!(fits, [true, true, false]);
}
