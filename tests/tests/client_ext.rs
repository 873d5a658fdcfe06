//! Extensions of the client against a server that lies, and against ours where it has the other
//! side. One file a topic below `client_ext/`; `fake` is the server that says what a test tells it.

#[path = "client_ext/fake.rs"]
mod fake;
#[path = "client_ext/lies.rs"]
mod lies;
#[path = "client_ext/mam.rs"]
mod mam;
#[path = "client_ext/muc.rs"]
mod muc;
#[path = "client_ext/ours.rs"]
mod ours;
#[path = "client_ext/requests.rs"]
mod requests;
