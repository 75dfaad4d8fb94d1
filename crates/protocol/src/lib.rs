//! Wire formats: how requests, answers, errors and states look on the network.
//!
//! Everything here is a pure function between bytes and `inferring-types`; sockets belong to
//! `server` and `client`, which share these functions, so both ends agree by construction.

pub mod array;
pub mod fields;
pub mod frames;
pub mod grpc;
mod json;
pub mod npy;
pub mod rest;
mod standing;
pub mod status;
