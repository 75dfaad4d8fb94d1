//! Starts every wire's worker and gateway, loads them in turn, and prints medians.
//!
//! All wires take their turn inside each round, so that a busy spell of the machine falls on all of them alike.

use crate::WireKind;
use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum as _};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

#[derive(Args)]
pub struct Plan {
    /// Every figure is the median of this many runs.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of load per run.
    #[arg(long, default_value_t = 1)]
    seconds: u32,
    /// Runtime threads of the gateway and of each worker.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Worker processes behind each gateway.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    connections: Vec<usize>,
    /// The wrk script.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/load.lua"))]
    script: String,
}

struct Payload {
    name: &'static str,
    shape: &'static str,
    elements: usize,
}

const SMALL: Payload = Payload { name: "4 floats", shape: "1,4", elements: 4 };
const IMAGE: Payload = Payload { name: "one image", shape: "1,3,224,224", elements: 3 * 224 * 224 };

/// A gateway with its workers.
struct Pair {
    wire: WireKind,
    gateway: Process,
    workers: Vec<Process>,
}

/// Ends with its standard input, that is, when this is dropped.
struct Process {
    child: Child,
    address: SocketAddr,
}

/// What wrk saw. Times in µs.
struct Load {
    requests: f64,
    duration: f64,
    p50: f64,
    p99: f64,
}

struct Sample {
    gateway: f64,
    workers: f64,
    load: Load,
}

pub fn run(plan: &Plan) -> Result<()> {
    ensure!(
        plan.rounds > 0 && plan.threads > 0 && plan.workers > 0,
        "rounds, threads and workers are at least 1"
    );
    let pairs = WireKind::value_variants()
        .iter()
        .map(|&wire| Pair::start(wire, plan))
        .collect::<Result<Vec<_>>>()?;
    println!(
        "{} runtime thread(s) per process, {} worker(s), {} rounds\n",
        plan.threads, plan.workers, plan.rounds
    );
    for payload in [SMALL, IMAGE] {
        for pair in &pairs {
            pair.check_answer(&payload)?;
        }
        println!(
            "| {} | connections | gateway µs | worker µs | sum µs (range) | req/s | p50 µs |",
            payload.name
        );
        println!("|---|---|---|---|---|---|---|");
        for &connections in &plan.connections {
            for (wire, samples) in
                interleave(&pairs, plan, |pair| pair.sample(&payload, connections, plan))?
            {
                let of =
                    |figure: fn(&Sample) -> f64| samples.iter().map(figure).collect::<Vec<_>>();
                let (low, sum, high) =
                    low_median_high(of(|sample| sample.gateway + sample.workers));
                println!(
                    "| {wire} | {connections} | {:.1} | {:.1} | {sum:.1} ({low:.1}-{high:.1}) | {:.0} | {:.0} |",
                    median(of(|sample| sample.gateway)),
                    median(of(|sample| sample.workers)),
                    median(of(|sample| 1e6 * sample.load.requests / sample.load.duration)),
                    median(of(|sample| sample.load.p50)),
                );
            }
        }
        println!();
    }
    println!(
        "| 4 floats on 8 connections beside images on 1 | p50 µs | p99 µs | images/s |\n|---|---|---|---|"
    );
    for (wire, loads) in interleave(&pairs, plan, |pair| pair.sample_mixed(plan))? {
        let p50 = median(loads.iter().map(|(small, _)| small.p50).collect());
        let p99 = median(loads.iter().map(|(small, _)| small.p99).collect());
        let images =
            median(loads.iter().map(|(_, image)| 1e6 * image.requests / image.duration).collect());
        println!("| {wire} | {p50:.0} | {p99:.0} | {images:.0} |");
    }
    Ok(())
}

/// Samples of every wire, by its name.
fn interleave<T>(
    pairs: &[Pair],
    plan: &Plan,
    mut sample: impl FnMut(&Pair) -> Result<T>,
) -> Result<Vec<(String, Vec<T>)>> {
    let mut samples = pairs.iter().map(|pair| (pair.name(), Vec::new())).collect::<Vec<_>>();
    for _ in 0..plan.rounds {
        for (pair, (name, samples)) in pairs.iter().zip(&mut samples) {
            samples.push(sample(pair).with_context(|| name.clone())?);
        }
    }
    Ok(samples)
}

impl Pair {
    fn start(wire: WireKind, plan: &Plan) -> Result<Self> {
        let worker_count = if wire == WireKind::None { 0 } else { plan.workers };
        let name = name(wire);
        let threads = plan.threads.to_string();
        let workers = (0..worker_count)
            .map(|_| Process::start(&["worker", &name, &threads]))
            .collect::<Result<Vec<_>>>()?;
        let addresses = workers.iter().map(|worker| worker.address.to_string()).collect::<Vec<_>>();
        let mut arguments = vec!["gateway", &name, &threads];
        arguments.extend(addresses.iter().map(String::as_str));
        let gateway = Process::start(&arguments)?;
        Ok(Self { wire, gateway, workers })
    }

    fn name(&self) -> String {
        name(self.wire)
    }

    /// A fast wrong answer would be no result: asks once and compares the whole tensor.
    fn check_answer(&self, payload: &Payload) -> Result<()> {
        let mut stream = TcpStream::connect(self.gateway.address)?;
        let tensor = (0..payload.elements)
            .flat_map(|index| (index as f32 + 0.5).to_le_bytes())
            .collect::<Vec<_>>();
        let (shape, length) = (payload.shape, tensor.len());
        write!(
            stream,
            "POST /infer?{shape} HTTP/1.1\r\nHost: g\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        )?;
        stream.write_all(&tensor)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let expected = [0.5, payload.elements as f32 - 0.5, payload.elements as f32]
            .map(f32::to_le_bytes)
            .concat();
        ensure!(
            answer.ends_with(&expected),
            "{}: wrong answer {}",
            self.name(),
            String::from_utf8_lossy(&answer)
        );
        Ok(())
    }

    /// CPU-µs per request while `connections` ask one after the other.
    fn sample(&self, payload: &Payload, connections: usize, plan: &Plan) -> Result<Sample> {
        let before = self.cpu_us()?;
        let load = start_wrk(self.gateway.address, payload, connections, plan)?.finish()?;
        let after = self.cpu_us()?;
        Ok(Sample {
            gateway: (after.0 - before.0) / load.requests,
            workers: (after.1 - before.1) / load.requests,
            load,
        })
    }

    /// Small requests while another client sends images: what they wait for each other on the wire.
    fn sample_mixed(&self, plan: &Plan) -> Result<(Load, Load)> {
        let images = start_wrk(self.gateway.address, &IMAGE, 1, plan)?;
        let small = start_wrk(self.gateway.address, &SMALL, 8, plan)?;
        Ok((small.finish()?, images.finish()?))
    }

    fn cpu_us(&self) -> Result<(f64, f64)> {
        let workers = self.workers.iter().map(Process::cpu_us).sum::<Result<f64>>()?;
        Ok((self.gateway.cpu_us()?, workers))
    }
}

impl Process {
    fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut address)?;
        let address = address.trim().parse().with_context(|| format!("start of {arguments:?}"))?;
        Ok(Self { child, address })
    }

    /// User and system time of all its threads. From `schedstat`, in ns: `stat` counts in ticks of 10 ms.
    fn cpu_us(&self) -> Result<f64> {
        let mut nanoseconds = 0.0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let schedstat = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let on_cpu = schedstat.split(' ').next().context("schedstat is empty")?;
            nanoseconds += on_cpu.parse::<f64>()?;
        }
        Ok(nanoseconds / 1e3)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

struct Wrk(Child);

fn start_wrk(
    gateway: SocketAddr,
    payload: &Payload,
    connections: usize,
    plan: &Plan,
) -> Result<Wrk> {
    let child = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}"), &format!("-d{}s", plan.seconds)])
        .args([
            "-s",
            &plan.script,
            &format!("http://{gateway}"),
            "--",
            payload.shape,
            &payload.elements.to_string(),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .context("wrk could not be started: apt-get install wrk")?;
    Ok(Wrk(child))
}

impl Wrk {
    fn finish(self) -> Result<Load> {
        let output = self.0.wait_with_output()?;
        let text = String::from_utf8(output.stdout)?;
        let result = text
            .lines()
            .find_map(|line| line.strip_prefix("result "))
            .context("wrk gave no result")?;
        let figures =
            result.split(' ').map(|figure| Ok(figure.parse()?)).collect::<Result<Vec<f64>>>()?;
        let [requests, failed, duration, p50, p99] = figures[..] else {
            anyhow::bail!("wrk printed {text}")
        };
        ensure!(failed == 0.0 && requests > 0.0, "{failed} of {requests} requests failed");
        Ok(Load { requests, duration, p50, p99 })
    }
}

fn name(wire: WireKind) -> String {
    wire.to_possible_value().expect("no wire is hidden").get_name().to_owned()
}

fn median(figures: Vec<f64>) -> f64 {
    low_median_high(figures).1
}

fn low_median_high(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[0], figures[figures.len() / 2], figures[figures.len() - 1])
}
