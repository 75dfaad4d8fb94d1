//! A server over a node that is made up, and clients that speak to it as they like.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod account;
mod admin;
mod ages;
mod bodies;
mod connections;
mod drain;
mod fixture;
mod floods;
mod frames;
mod grpc;
mod heads;
mod multiplexed;
mod node;
mod smuggling;
mod streams;
mod threads;
