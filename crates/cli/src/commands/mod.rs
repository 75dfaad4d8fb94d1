//! One module per command.

pub(crate) mod bench;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod gateway;
pub(crate) mod infer;
pub(crate) mod inspect;
pub(crate) mod serve;
pub(crate) mod worker;
pub(crate) mod workers;
