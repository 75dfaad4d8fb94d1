//! A process of the program: started as a user starts it, its output kept, never left behind.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use inferring_backend::ort::library::Places;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::client::Client;
use crate::waiting::{LONG, wait_for};

/// A command line, and the environment in which it runs.
#[derive(Debug, Clone)]
pub struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    socket: Option<Arc<OwnedFd>>,
}

impl Launch {
    /// `program` with these arguments, in this process's environment less what would change the
    /// program's settings.
    pub fn new<A: AsRef<OsStr>>(
        program: impl AsRef<Path>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let settings = std::env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| name.to_string_lossy().starts_with("INFERRING_"))
            .chain(["MODEL_PATH".into()]);
        Self {
            program: program.as_ref().to_owned(),
            arguments: arguments.into_iter().map(|a| a.as_ref().to_owned()).collect(),
            environment: settings.map(|name| (name, None)).collect(),
            socket: None,
        }
        .env("ORT_DYLIB_PATH", onnxruntime())
    }

    /// The same with one more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// The same with more arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// The same with settings, each `key=value`.
    #[must_use]
    pub fn set<S: AsRef<OsStr>>(self, settings: impl IntoIterator<Item = S>) -> Self {
        settings.into_iter().fold(self, |launch, setting| launch.arg("--set").arg(setting))
    }

    /// The same with a variable in its environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// The same without a variable in its environment.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), None));
        self
    }

    /// The same with a socket that is handed over as a service manager does, which says that these
    /// are `count` with those names.
    #[must_use]
    pub fn on_socket(self, socket: impl Into<OwnedFd>, count: &str, names: &str) -> Self {
        let launch = self.env("LISTEN_FDS", count).env("LISTEN_FDNAMES", names);
        Self { socket: Some(Arc::new(socket.into())), ..launch }
    }

    /// Starts it, without waiting for anything.
    pub fn spawn(&self) -> Process {
        let mut command = self.command();
        command.args(&self.arguments);
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = Arc::new(Output::default());
        let readers = [
            output.clone().keep(Stream::Stdout, child.stdout.take().unwrap()),
            output.clone().keep(Stream::Stderr, child.stderr.take().unwrap()),
        ];
        Process { launch: self.clone(), child, output, readers: readers.into(), ended: None }
    }

    /// The program, without arguments.
    fn command(&self) -> Command {
        let Some(socket) = &self.socket else {
            let mut command = Command::new(&self.program);
            command.stdin(Stdio::null());
            return command;
        };
        // The first descriptor that is no standard one, and the id of the process that is to have it.
        let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec \"$@\"";
        let mut command = Command::new("bash");
        command.args(["-c", script, "bash"]).arg(&self.program);
        command.stdin(Stdio::from(socket.try_clone().unwrap()));
        command
    }

    /// Starts it and waits until it says that it takes requests.
    ///
    /// # Panics
    /// When it ends instead.
    #[track_caller]
    pub fn start(&self) -> Process {
        let mut process = self.spawn();
        process.wait_until_ready();
        process
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn run(&self) -> Ended {
        self.spawn().wait_for_end(LONG)
    }
}

/// The file of ONNX Runtime's library, searched for once: the search may start a Python interpreter, which
/// takes longer than all else that a worker does at its start.
pub fn onnxruntime() -> &'static Path {
    static LIBRARY: LazyLock<PathBuf> =
        LazyLock::new(|| Places::of_process(None).find().unwrap_or_else(|e| panic!("{e}")).path);
    &LIBRARY
}

/// A running process, or one that has ended. Dropping it kills it; where a test fails, what it
/// wrote is shown.
pub struct Process {
    launch: Launch,
    child: Child,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

/// What became of a process.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Process {
    /// Waits until it says that it takes requests; returns when it was heard.
    ///
    /// # Panics
    /// When it ends instead.
    #[track_caller]
    pub fn wait_until_ready(&mut self) -> Instant {
        assert!(self.output.ready_address(LONG).is_some(), "not ready: {}", self.output.text());
        Instant::now()
    }

    /// Waits until it says that it takes requests, and where; `None` where it ends instead.
    pub fn ready_or_ended(&mut self) -> Option<SocketAddr> {
        self.output.ready_address(LONG)
    }

    /// Where it takes requests.
    ///
    /// # Panics
    /// Before it said so.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.output.ready_address(Duration::ZERO).expect("the process said that it is ready")
    }

    /// A client of its own for this process.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::new(self.address())
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    #[track_caller]
    pub fn wait_for_end(&mut self, limit: Duration) -> Ended {
        let status = match self.ended {
            Some(status) => status,
            None => wait_for("the process ends", limit, || self.child.try_wait().unwrap()),
        };
        self.ended = Some(status);
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        Ended {
            code: status.code(),
            stdout: self.output.of(Stream::Stdout),
            stderr: self.output.of(Stream::Stderr),
        }
    }

    /// Ends it at once, as a crash would, and waits until the system has taken everything back.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            self.ended = Some(self.child.wait().unwrap());
        }
    }

    /// Has it end as native code does that finds itself broken: by aborting. Its memory is not
    /// written to a file, as systems may do then.
    pub fn crash(&mut self) {
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Core, none).unwrap();
        self.signal(Signal::ABORT);
        self.ended = Some(self.child.wait().unwrap());
    }

    /// The memory of it that is in use, in bytes, as the system tells.
    ///
    /// # Panics
    /// Where it has ended.
    #[track_caller]
    pub fn resident_bytes(&self) -> u64 {
        let status = self.told_by_system("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.expect("a running process").trim().strip_suffix(" kB").unwrap();
        kibibytes.parse::<u64>().unwrap() * 1024
    }

    /// How many files and connections it has open.
    ///
    /// # Panics
    /// Where it has ended.
    #[track_caller]
    pub fn descriptors(&self) -> usize {
        self.count_in_proc("fd")
    }

    /// How many threads it has.
    ///
    /// # Panics
    /// Where it has ended.
    #[track_caller]
    pub fn threads(&self) -> usize {
        self.count_in_proc("task")
    }

    /// What the system tells of it in that file of its own.
    ///
    /// # Panics
    /// Where it has ended.
    #[track_caller]
    pub fn told_by_system(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    fn count_in_proc(&self, folder: &str) -> usize {
        std::fs::read_dir(format!("/proc/{}/{folder}", self.child.id())).unwrap().count()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        assert!(self.ended.is_none(), "the process has ended: {}", self.output.text());
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        self.readers.drain(..).for_each(|reader| drop(reader.join()));
        if std::thread::panicking() {
            eprintln!("--- {:?}\n{}", self.launch.arguments, self.output.text());
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

/// What a process wrote, line by line in the order in which it was heard.
#[derive(Default)]
struct Output {
    state: Mutex<OutputState>,
    changed: Condvar,
}

#[derive(Default)]
struct OutputState {
    lines: Vec<(Stream, String)>,
    ready_address: Option<SocketAddr>,
    stdout_ended: bool,
}

impl Output {
    fn keep(self: Arc<Self>, stream: Stream, source: impl Read + Send + 'static) -> JoinHandle<()> {
        std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).into_owned();
                line.clear();
                let mut state = self.state.lock().unwrap();
                if stream == Stream::Stdout {
                    state.ready_address = state.ready_address.or_else(|| address_in(&text));
                }
                state.lines.push((stream, text));
                self.changed.notify_all();
            }
            self.state.lock().unwrap().stdout_ended |= stream == Stream::Stdout;
            self.changed.notify_all();
        })
    }

    /// The address at which the process said that it takes requests; `None` where it ended
    /// without, or `limit` passed.
    fn ready_address(&self, limit: Duration) -> Option<SocketAddr> {
        let undecided =
            |state: &mut OutputState| state.ready_address.is_none() && !state.stdout_ended;
        let state = self.state.lock().unwrap();
        self.changed.wait_timeout_while(state, limit, undecided).unwrap().0.ready_address
    }

    fn of(&self, stream: Stream) -> String {
        let state = self.state.lock().unwrap();
        let lines = state.lines.iter().filter(|(of, _)| *of == stream);
        lines.map(|(_, line)| line.as_str()).collect()
    }

    fn text(&self) -> String {
        self.state.lock().unwrap().lines.iter().map(|(_, line)| line.as_str()).collect()
    }
}

/// The address in a line such as `worker ready on http://127.0.0.1:8001 as worker_1, ...`.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(" ready on http://")?;
    rest.split_whitespace().next()?.parse().ok()
}
