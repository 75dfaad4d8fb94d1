//! What it is worth to run a model from several threads at once, and what it costs.
//!
//! ```text
//! cargo run --release -p inferring-backend --example callers -- model.onnx 1,4,8 input_ids=Bx32 ...
//! ```
//!
//! After the model come the numbers of rows to measure with, and each input with its shape, in
//! which `B` stands for the rows. Three arrangements take turns on as many cores as the process
//! has: one caller, whose runs are spread over the pool that all sessions share; a caller for each
//! core over one loaded model, with the same pool; the same, each run on its caller's thread
//! alone. All answers of all callers are held against those of one run.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use inferring_backend::ort::{Device, OrtBackend, OrtConfig};
use inferring_backend::{Backend as _, LoadOptions, LoadedModel, Session};
use inferring_types::{DataType, Shape, Tensor, TensorSpec};
use rustix::time::{ClockId, clock_gettime};

const WINDOWS: usize = 7;
const WINDOW: Duration = Duration::from_millis(700);

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("which model?")?);
    let rows = arguments.next().ok_or("how many rows?")?;
    let shapes = arguments.collect::<Vec<_>>();
    let cores = thread::available_parallelism()?;
    let backend = OrtBackend::start(OrtConfig {
        device: Device::Cpu,
        intra_op_threads: Some(cores),
        ..OrtConfig::default()
    })?;
    let load = |threads| {
        backend.load(&path, &LoadOptions { intra_op_threads: threads, ..LoadOptions::default() })
    };
    let (spread, alone) = (load(None)?, load(Some(NonZeroUsize::MIN))?);
    println!("{}: {cores} cores", path.display());
    println!("| rows | arrangement | l ms | rows/s | CPU ms per row |");
    println!("|---|---|---|---|---|");
    for rows in rows.split(',') {
        let inputs = inputs(&spread.inputs, &shapes, rows)?;
        let rows = rows.parse::<u32>()?;
        let arrangements: [(&str, &LoadedModel, usize); 3] = [
            ("1 caller, shared pool", &spread, 1),
            ("a caller per core, shared pool", &spread, cores.get()),
            ("a caller per core, no pool", &alone, cores.get()),
        ];
        let mut windows = arrangements.map(|_| Vec::new());
        for _ in 0..WINDOWS {
            for ((_, model, callers), windows) in arrangements.iter().zip(&mut windows) {
                windows.push(window(model, *callers, &inputs)?);
            }
        }
        for ((name, _, _), mut windows) in arrangements.into_iter().zip(windows) {
            // Of a noisy machine's windows, those that were disturbed least.
            windows.sort_by(|a, b| b.rate().total_cmp(&a.rate()));
            let best = &windows[1];
            let cpu = windows.iter().map(Window::cpu_per_run).fold(f64::MAX, f64::min);
            println!(
                "| {rows} | {name} | {:.3} | {:.0} | {:.4} |",
                best.latency * 1e3,
                best.rate() * f64::from(rows),
                cpu * 1e3 / f64::from(rows),
            );
        }
    }
    Ok(())
}

/// What happened in one stretch of time.
struct Window {
    runs: usize,
    wall: Duration,
    cpu: Duration,
    /// The mean time of a run, in seconds.
    latency: f64,
}

impl Window {
    fn rate(&self) -> f64 {
        self.runs as f64 / self.wall.as_secs_f64()
    }

    fn cpu_per_run(&self) -> f64 {
        self.cpu.as_secs_f64() / self.runs as f64
    }
}

fn window(model: &LoadedModel, callers: usize, inputs: &[Tensor]) -> Result<Window, Error> {
    let sessions = (0..callers).map(|_| model.session.share());
    let mut sessions = sessions.collect::<Option<Vec<_>>>().ok_or("it cannot be shared")?;
    let expected = sessions[0].execute(inputs)?;
    let barrier = Barrier::new(callers + 1);
    let call = |mut session: Box<dyn Session>| -> Result<usize, Error> {
        session.execute(inputs)?;
        barrier.wait();
        let (begun, mut runs) = (Instant::now(), 0);
        while begun.elapsed() < WINDOW {
            if session.execute(inputs)? != expected {
                return Err("two callers got different answers".into());
            }
            runs += 1;
        }
        Ok(runs)
    };
    thread::scope(|scope| {
        let callers = sessions.into_iter().map(|session| scope.spawn(|| call(session)));
        let callers = callers.collect::<Vec<_>>();
        barrier.wait();
        let (begun, cpu) = (Instant::now(), cpu_time());
        let number = callers.len();
        let runs =
            callers.into_iter().map(|caller| caller.join().map_err(|_| "a caller panicked")?);
        let runs = runs.sum::<Result<usize, Error>>()?;
        let (wall, cpu) = (begun.elapsed(), cpu_time().saturating_sub(cpu));
        let latency = wall.as_secs_f64() * number as f64 / runs as f64;
        Ok(Window { runs, wall, cpu, latency })
    })
}

/// The CPU time that this process has used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Inputs of those shapes, the numbers in them neither all equal nor wild.
fn inputs(specs: &[TensorSpec], shapes: &[String], rows: &str) -> Result<Vec<Tensor>, Error> {
    let of = |spec: &TensorSpec| {
        let shape = shapes
            .iter()
            .find_map(|shape| shape.strip_prefix(&format!("{}=", spec.name)))
            .ok_or_else(|| format!("of which shape is `{}` {}?", spec.name, spec.shape))?;
        let sizes = shape.replace('B', rows);
        let sizes = sizes.split('x').filter(|size| !size.is_empty()).map(str::parse);
        let shape = Shape::new(sizes.collect::<Result<Vec<u64>, _>>()?);
        let elements = shape.elements().ok_or("too many elements")?;
        let data = match spec.datatype {
            DataType::Fp32 => {
                let value = |i: u64| ((i * 7 % 31) as f32 / 16.0 - 1.0).to_le_bytes();
                (0..elements).flat_map(value).collect::<Vec<u8>>()
            }
            // A mark, an index, or a sampling rate.
            DataType::Int64 if shape.rank() == 0 => 16_000_i64.to_le_bytes().to_vec(),
            DataType::Int64 => (0..elements).flat_map(|_| 1_i64.to_le_bytes()).collect(),
            DataType::Int32 => (0..elements).flat_map(|i| (i as i32 % 256).to_le_bytes()).collect(),
            other => return Err(format!("`{}` takes {other}", spec.name).into()),
        };
        Ok(Tensor::new(spec.datatype, shape, data.into())?)
    };
    specs.iter().map(of).collect()
}
