//! Stream management (XEP-0198) over the wire: rows `im_sm_NN`, and what a session does that waits
//! for its client. One file a topic below `xep0198/`.

#[path = "xep0198/counting.rs"]
mod counting;
#[path = "xep0198/faults.rs"]
mod faults;
#[path = "xep0198/hibernation.rs"]
mod hibernation;
#[path = "xep0198/resumption.rs"]
mod resumption;
