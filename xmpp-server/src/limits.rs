//! Placeholder until the limits land.
#![allow(missing_docs)]
#[derive(Clone, Debug)]
pub struct Limits {
    pub outbox_items_max: usize,
    pub outbox_bytes_max: usize,
    pub outbox_items_soft: usize,
    pub outbox_bytes_soft: usize,
    pub directed_max: usize,
    pub roster_items_max: usize,
    pub roster_name_bytes_max: usize,
    pub roster_groups_max: usize,
    pub roster_group_bytes_max: usize,
    pub pending_requests_max: usize,
    pub pending_request_bytes_max: usize,
    pub private_elements_max: usize,
    pub private_bytes_max: usize,
    pub vcard_bytes_max: usize,
}
