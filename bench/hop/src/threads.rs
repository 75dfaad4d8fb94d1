//! N current-thread runtimes behind one listener.
//!
//! Connections are dealt out in turn rather than by SO_REUSEPORT: the kernel's hash could put both connections of a
//! multiplexing hop on the same thread, and the figures would then depend on luck.

use anyhow::Result;
use std::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// The connections that one thread is given. Non-blocking, with TCP_NODELAY.
pub type Connections = mpsc::Receiver<TcpStream>;

/// Prints the address it listens on, then serves until the process ends.
pub fn listen<S, F>(threads: usize, serve: S) -> Result<()>
where
    S: Fn(Connections) -> F + Clone + Send + 'static,
    F: Future<Output = Result<()>>,
{
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut queues = Vec::new();
    for _ in 0..threads {
        let (queue, connections) = mpsc::channel(1024);
        let serve = serve.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            // A thread that cannot serve would silently halve the server: better none at all.
            if let Err(error) = runtime.block_on(serve(connections)) {
                eprintln!("hop: {error:#}");
                std::process::exit(1);
            }
        });
        queues.push(queue);
    }
    println!("{}", listener.local_addr()?);
    for turn in 0.. {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        queues[turn % threads].blocking_send(stream)?;
    }
    Ok(())
}
