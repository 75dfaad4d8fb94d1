//! What does the wire between gateway and worker cost? See README.md.

mod compare;
mod framed;
mod gateway;
mod grpc;
mod http;
mod message;
mod threads;
mod worker;

use clap::{Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;

/// glibc returns the memory of many an image to the kernel and pays for it again in page faults, which would drown what
/// the wires differ in. `--no-default-features` measures with it.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
enum Arguments {
    /// Measures every wire, interleaved, and prints the tables.
    Compare(compare::Plan),
    /// The two processes that `compare` starts. They end when their standard input closes.
    #[command(flatten)]
    Serve(Serve),
}

#[derive(Subcommand)]
enum Serve {
    Worker { wire: WireKind, threads: usize },
    Gateway { wire: WireKind, threads: usize, workers: Vec<SocketAddr> },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WireKind {
    /// The gateway answers by itself: the cost of the front alone.
    None,
    Http1,
    Http2,
    Grpc,
    GrpcLean,
    Framed,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse() {
        Arguments::Compare(plan) => compare::run(&plan),
        Arguments::Serve(serve) => {
            end_with_standard_input();
            match serve {
                Serve::Worker { wire, threads } => worker::run(wire, threads),
                Serve::Gateway { wire, threads, workers } => gateway::run(wire, threads, workers),
            }
        }
    }
}

/// However `compare` ends, the pipe closes: no process is left behind.
fn end_with_standard_input() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}
