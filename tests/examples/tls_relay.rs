//! A bare TLS relay: decrypts, copies, encrypts. What our figures are compared with.
//!
//! Prints its address and the file that holds its CA; peers that send the same first line are
//! joined. `chat_beside_relay` starts the same relay by itself.

use xmpp_testkit::load::relay::Relay;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let relay = Relay::start().await;
    let ca = std::env::temp_dir().join(format!("tls_relay-{}.pem", std::process::id()));
    std::fs::write(&ca, relay.ca_pem()).expect("a temporary file");
    println!("listening {} ca {}", relay.address(), ca.display());
    relay.run().await;
}
