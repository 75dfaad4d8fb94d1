//! Clients that ask without a pause, every one its own questions, and hold every answer against
//! what it must be.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::waiting::{LONG, wait_until};

/// Questions of which no two are the same, and the answers to them.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// The model that is asked.
    pub model: &'static str,
    /// The `n`-th input, flat.
    pub input: fn(n: u64) -> Value,
    /// The output that belongs to it, flat.
    pub output: fn(n: u64) -> Value,
}

impl Question {
    /// The path at which it is asked.
    pub fn path(&self) -> String {
        format!("/models/{}/infer", self.model)
    }

    /// The body of the `n`-th one.
    pub fn body(&self, n: u64) -> Value {
        json!({ "input_data": (self.input)(n) })
    }

    /// The node that answered the `n`-th one rightly; else what is wrong.
    pub fn check(&self, n: u64, answer: &Answer) -> Result<String, String> {
        if answer.status != 200 {
            return Err(format!("status {}: {}", answer.status, answer.text()));
        }
        let document = answer.json();
        let numbers = |value: &Value| -> Option<Vec<f64>> {
            value.as_array()?.iter().map(Value::as_f64).collect()
        };
        let expected = (self.output)(n);
        if numbers(&document["output_data"]) != numbers(&expected) {
            return Err(format!("wrong answer to {n}: {document} instead of {expected}"));
        }
        document["node_id"].as_str().map(str::to_owned).ok_or_else(|| "no node_id".to_owned())
    }
}

/// One question and what became of it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was asked.
    pub asked: Instant,
    /// How long the answer took.
    pub elapsed: Duration,
    /// The node that answered it rightly; else what is wrong.
    pub result: Result<String, String>,
}

impl Sample {
    /// When it was answered.
    pub fn answered(&self) -> Instant {
        self.asked + self.elapsed
    }
}

/// Clients at work. They end with [`Load::finish`] or when this is dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    samples: Arc<Mutex<Vec<Sample>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts so many clients of the process at `address`, each with a connection that it keeps.
    pub fn start(address: SocketAddr, clients: u64, question: Question) -> Self {
        Self::with_headers(address, clients, question, &[])
    }

    /// The same, with header fields on every request.
    pub fn with_headers(
        address: SocketAddr,
        clients: u64,
        question: Question,
        headers: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self::asking(address, clients, move |client, n| ask(client, question, headers, n).result)
    }

    /// The same with questions of any kind: `ask` puts the `n`-th one, and tells who answered it
    /// rightly or what is wrong.
    pub fn asking(
        address: SocketAddr,
        clients: u64,
        ask: impl Fn(&Client, u64) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let samples = Arc::new(Mutex::new(Vec::new()));
        let ask = Arc::new(ask);
        let clients = (0..clients)
            .map(|number| {
                let (stop, samples, ask) = (stop.clone(), samples.clone(), ask.clone());
                let client = Client::new(address);
                std::thread::spawn(move || {
                    // Far apart, so that no two clients ever ask the same.
                    let mut n = number * 1_000_000;
                    while !stop.load(Ordering::Relaxed) {
                        n += 1;
                        let asked = Instant::now();
                        let result = ask(&client, n);
                        let sample = Sample { asked, elapsed: asked.elapsed(), result };
                        samples.lock().unwrap().push(sample);
                    }
                })
            })
            .collect();
        Self { stop, samples, clients }
    }

    /// Waits until so many more questions were asked and answered.
    #[track_caller]
    pub fn wait_for_more(&self, count: usize) {
        let now = Instant::now();
        wait_until("more questions are answered", LONG, || {
            self.samples.lock().unwrap().iter().filter(|sample| sample.asked > now).count() >= count
        });
    }

    /// Waits until `node` has answered a question asked after `moment`; returns when it did.
    #[track_caller]
    pub fn wait_for_answer_by(&self, node: &str, moment: Instant) -> Instant {
        let by_node = |sample: &&Sample| {
            sample.asked >= moment && sample.result.as_ref().is_ok_and(|by| by == node)
        };
        crate::waiting::wait_for(&format!("an answer by {node}"), LONG, || {
            self.samples.lock().unwrap().iter().find(by_node).map(Sample::answered)
        })
    }

    /// Lets every client finish its last question, and tells all that happened.
    pub fn finish(mut self) -> Report {
        self.end();
        Report { samples: std::mem::take(&mut self.samples.lock().unwrap()) }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.drain(..).for_each(|client| drop(client.join()));
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn ask(client: &Client, question: Question, headers: &[(&str, &str)], n: u64) -> Sample {
    let asked = Instant::now();
    let body = question.body(n).to_string();
    let result = client
        .send("POST", &question.path(), headers, body.as_bytes())
        .map_err(|error| error.to_string())
        .and_then(|answer| question.check(n, &answer));
    Sample { asked, elapsed: asked.elapsed(), result }
}

/// Lets this process have as many connections open as the system allows: a test that is a
/// thousand clients needs more than the thousand that processes usually start with.
pub fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, raised).expect("a process may raise its limit to its maximum");
}

/// Asks questions `numbers`, all at the same time, each on a connection of its own.
pub fn ask_together(
    address: SocketAddr,
    question: Question,
    numbers: impl IntoIterator<Item = u64>,
) -> Report {
    let threads: Vec<_> = numbers
        .into_iter()
        .map(|n| std::thread::spawn(move || ask(&Client::new(address), question, &[], n)))
        .collect();
    Report { samples: threads.into_iter().map(|thread| thread.join().unwrap()).collect() }
}

/// What became of all questions.
#[derive(Debug)]
pub struct Report {
    samples: Vec<Sample>,
}

impl Report {
    /// All questions.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Sees that every question was answered, and rightly.
    ///
    /// # Panics
    /// Where one was not.
    #[track_caller]
    pub fn assert_none_failed(&self) {
        let failed: Vec<_> = self.samples.iter().filter(|sample| sample.result.is_err()).collect();
        let (count, all) = (failed.len(), self.samples.len());
        assert!(failed.is_empty(), "{count} of {all} failed: {:#?}", &failed[..count.min(5)]);
    }

    /// The longest time that an answer took.
    pub fn slowest(&self) -> Duration {
        self.samples.iter().map(|sample| sample.elapsed).max().unwrap_or_default()
    }

    /// The questions that `node` answered.
    pub fn by<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |s| s.result.as_deref().is_ok_and(|by| by == node))
    }

    /// The nodes that answered.
    pub fn nodes(&self) -> BTreeSet<&str> {
        self.samples.iter().filter_map(|s| s.result.as_deref().ok()).collect()
    }
}

/// The `share` quantile of these times.
pub fn quantile(mut times: Vec<Duration>, share: f64) -> Duration {
    times.sort_unstable();
    let index = (times.len() as f64 * share).ceil() as usize;
    times[index.clamp(1, times.len()) - 1]
}
