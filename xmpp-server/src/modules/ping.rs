//! Placeholder.
use super::{Info, Module, Scope};
/// The module.
pub struct Feature;
impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "ping",
            specs: &[],
        }
    }
    fn register(&self, _scope: &mut Scope<'_>) {}
}
