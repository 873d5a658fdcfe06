//! The always-on part of RFC 6121, written on the module interface: if it can be, so can anyone's.

use crate::modules::Module;

mod message;
mod presence;
mod roster;
pub mod subscription;

/// Always loaded; they cannot be switched off.
pub static ALL: &[&dyn Module] = &[
    &message::Feature,
    &presence::Feature,
    &roster::Feature,
    &subscription::Feature,
];
