//! Account operations over the memory store.

use super::*;
use xmpp_stream::stream::ScramHash;

fn users(file: bool) -> Users {
    let mut config = Config::default_zero().with_domain("a.test").unwrap();
    config.sasl.scram_iterations = 4096;
    config.file = file.then(|| "x.toml".into());
    Users::Stopped(Arc::new(Stopped::new(
        Store::memory(),
        &config,
        &Clock::start(),
    )))
}

fn password(text: &str) -> Password {
    Password(text.into())
}

#[tokio::test]
async fn accounts_come_and_go() {
    let users = users(true);
    let ann = account_name("Ann@A.test").unwrap();
    users.add(&ann, password("one")).await.unwrap();
    assert_eq!(
        users.add(&ann, password("two")).await,
        Err(UserError::Exists)
    );
    let record = users.store().account(&ann).await.unwrap().unwrap();
    let mut hashes: Vec<_> = record.keys.iter().map(|keys| keys.hash).collect();
    hashes.sort();
    assert_eq!(
        hashes,
        [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512]
    );
    assert!(record.keys.iter().all(|keys| keys.iterations == 4096));
    assert!(record.keys.iter().all(|keys| keys.verify_password("one")));

    users.set_password(&ann, password("three")).await.unwrap();
    let record = users.store().account(&ann).await.unwrap().unwrap();
    assert!(record.keys.iter().all(|keys| keys.verify_password("three")));
    assert!(!record.keys.iter().any(|keys| keys.verify_password("one")));

    users.remove(&ann).await.unwrap();
    assert_eq!(users.remove(&ann).await, Err(UserError::Unknown));
    assert_eq!(
        users.set_password(&ann, password("x")).await,
        Err(UserError::Unknown)
    );
    assert_eq!(users.list(None).await.unwrap(), []);
}

#[tokio::test]
async fn no_password_is_empty() {
    let users = users(true);
    let ann = account_name("ann@a.test").unwrap();
    assert_eq!(
        users.add(&ann, password("")).await,
        Err(UserError::EmptyPassword)
    );
    users.add(&ann, password(" ")).await.unwrap();
    assert_eq!(
        users.set_password(&ann, password("")).await,
        Err(UserError::EmptyPassword)
    );
}

#[tokio::test]
async fn domains_are_those_of_the_file_or_any() {
    let bob = account_name("bob@b.test").unwrap();
    assert_eq!(
        users(true).add(&bob, password("x")).await,
        Err(UserError::NotServed)
    );
    let users = users(false);
    for name in ["bob@b.test", "zoe@a.test", "ann@a.test"] {
        users
            .add(&account_name(name).unwrap(), password("x"))
            .await
            .unwrap();
    }
    let check = async |domain: Option<&str>, want: &[&str]| {
        let accounts = users.list(domain).await.unwrap();
        let accounts: Vec<_> = accounts.iter().map(|account| account.as_str()).collect();
        assert_eq!(accounts, want, "{domain:?}");
    };
    check(None, &["ann@a.test", "zoe@a.test", "bob@b.test"]).await;
    check(Some("B.TEST"), &["bob@b.test"]).await;
    check(Some("c.test"), &[]).await;
    assert_eq!(
        users.list(Some("a..b")).await,
        Err(UserError::Name(JidError::Domain))
    );
}

#[test]
fn names_of_accounts() {
    let good = |text: &str, want: &str| {
        assert_eq!(account_name(text).unwrap().as_str(), want, "{text}");
    };
    good("ann@a.test", "ann@a.test");
    good("Ann@A.Test", "ann@a.test");
    for bad in [
        "ann",
        "@a.test",
        "ann@",
        "a b@a.test",
        "ann@a.test/home",
        "a@b@c.test",
        "",
    ] {
        assert!(account_name(bad).is_err(), "{bad}");
    }
}
