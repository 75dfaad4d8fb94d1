//! Sends load: so many sessions, one schedule, one tally.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::Full;
use inferring_protocol::rest::headers;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::alarm::Alarm;
use crate::answer::Answer;
use crate::connection::{Outgoing, Session};
use crate::failure::{Failure, FailureKind};
use crate::schedule::{Limit, Pacer, Schedule, Ticket};
use crate::tally::Tally;
use crate::target::Connect;
use crate::workload::Form;

/// One run of load.
pub(crate) struct Round {
    /// Request bodies, which take turns.
    pub(crate) bodies: Arc<[Bytes]>,
    pub(crate) schedule: Schedule,
    pub(crate) limit: Limit,
    /// Whether the outputs are wanted.
    pub(crate) keep_outputs: bool,
}

/// What a round measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    /// From the start to the last answer.
    pub(crate) elapsed: Duration,
    /// Processor time that this process took meanwhile.
    pub(crate) cpu: Duration,
    /// Requests under way that were given up, the run having been interrupted.
    pub(crate) abandoned: u64,
}

/// A wish to end early, such as Ctrl-C, that may come at any moment.
pub struct Interrupt {
    event: Pin<Box<dyn Future<Output = ()> + Send>>,
    raised: bool,
}

impl Interrupt {
    /// The wish comes when `event` ends.
    pub fn on(event: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { event: Box::pin(event), raised: false }
    }

    /// Whether it has come.
    pub(crate) fn is_raised(&self) -> bool {
        self.raised
    }

    async fn raise(&mut self) {
        if !self.raised {
            self.event.as_mut().await;
            self.raised = true;
        }
    }
}

/// The sessions that send load, kept from round to round so that a round does not begin with a
/// burst of connections.
pub(crate) struct Generator<C: Connect> {
    sessions: Vec<Session<C>>,
    endpoint: Arc<Endpoint>,
    alarm: fn() -> Alarm,
}

impl<C: Connect> Generator<C> {
    /// Time between two calls of a round's `watch`.
    const WATCH_PERIOD: Duration = Duration::from_millis(100);

    /// After a refused connection a closed loop waits this long: without it, the rest of all
    /// requests would fail in the moment in which a server restarts.
    const CONNECT_PAUSE: Duration = Duration::from_millis(10);

    /// Opens `concurrency` connections for requests to `endpoint`.
    ///
    /// # Errors
    /// The first failure, where not one connection could be opened. Those that could not are
    /// tried again by their first request.
    pub(crate) async fn connect(
        connector: &C,
        mut endpoint: Endpoint,
        concurrency: usize,
        alarm: fn() -> Alarm,
    ) -> Result<Self, Failure> {
        let timeout = endpoint.timeout;
        let mut opening = JoinSet::new();
        for _ in 0..concurrency {
            let mut session = Session::new(connector.clone());
            opening.spawn(async move {
                let connected = session.connect(timeout).await;
                (session, connected)
            });
        }
        let opened = opening.join_all().await;
        let (sessions, outcomes): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
        if outcomes.iter().all(Result::is_err) {
            outcomes.into_iter().collect::<Result<(), _>>()?;
        }
        let host = HeaderValue::from_str(connector.authority());
        endpoint.headers.insert(HOST, host.expect("an authority is a header value"));
        Ok(Self { sessions, endpoint: Arc::new(endpoint), alarm })
    }

    /// Runs one round. `watch` is called now and then; when `interrupt` comes, requests under
    /// way are given up, and what was measured until then is the result.
    pub(crate) async fn run(
        &mut self,
        round: Round,
        interrupt: &mut Interrupt,
        watch: &mut (dyn FnMut(&Tally) + Send),
    ) -> Measured {
        let cpu_before = process_cpu_time();
        let start = Instant::now();
        let shared = Arc::new(Shared {
            endpoint: Arc::clone(&self.endpoint),
            bodies: round.bodies,
            open_loop: matches!(round.schedule, Schedule::Open { .. }),
            pacer: Pacer::new(round.schedule, round.limit, start, (self.alarm)()),
            tally: Mutex::new(Tally::new(round.keep_outputs)),
        });
        let mut working = JoinSet::new();
        for session in self.sessions.drain(..) {
            working.spawn(work(session, Arc::clone(&shared)));
        }
        let mut ticks = tokio::time::interval(Self::WATCH_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ended = working.join_next() => match ended {
                    Some(session) => self.sessions.push(session.expect("a session does not panic")),
                    None => break,
                },
                _ = ticks.tick() => watch(&shared.tally.lock()),
                () = interrupt.raise() => {
                    working.shutdown().await;
                    break;
                }
            }
        }
        let elapsed = start.elapsed();
        let cpu = process_cpu_time().saturating_sub(cpu_before);
        let shared = Arc::into_inner(shared).expect("every session has ended");
        let tally = shared.tally.into_inner();
        watch(&tally);
        let abandoned = tally.begun - tally.done();
        Measured { tally, elapsed, cpu, abandoned }
    }
}

/// Where requests go, and what is the same in all of them.
pub(crate) struct Endpoint {
    path: Uri,
    headers: HeaderMap,
    timeout: Duration,
}

impl Endpoint {
    /// For requests of that form to `path`, with so long a JSON head where raw tensors follow.
    pub(crate) fn new(
        path: Uri,
        form: Form,
        json_length: Option<usize>,
        timeout: Duration,
    ) -> Self {
        // The server may stop working for a client that has gone.
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static(form.content_type())),
            (headers::TIMEOUT, milliseconds.into()),
        ]);
        headers.extend(json_length.map(|length| (headers::JSON_LENGTH, length.into())));
        Self { path, headers, timeout }
    }

    fn request(&self, body: Bytes) -> Outgoing {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// What the sessions of a round share.
struct Shared {
    endpoint: Arc<Endpoint>,
    bodies: Arc<[Bytes]>,
    open_loop: bool,
    pacer: Pacer,
    tally: Mutex<Tally>,
}

/// Sends requests, one after the other, until the round is over.
async fn work<C: Connect>(mut session: Session<C>, shared: Arc<Shared>) -> Session<C> {
    while let Some(ticket) = shared.pacer.next().await {
        let unreachable = answer_ticket(&mut session, &shared, ticket).await;
        if unreachable && !shared.open_loop {
            tokio::time::sleep(Generator::<C>::CONNECT_PAUSE).await;
        }
    }
    session
}

/// Sends one request and records how it went; tells whether no connection could be opened.
async fn answer_ticket<C: Connect>(
    session: &mut Session<C>,
    shared: &Shared,
    ticket: Ticket,
) -> bool {
    let timeout = shared.endpoint.timeout;
    {
        let mut tally = shared.tally.lock();
        tally.begun += 1;
        tally.backlogged += u64::from(ticket.awaited_connection);
        if shared.open_loop {
            let lateness = ticket.due.elapsed();
            // A user who had waited that long would have left.
            if lateness > timeout {
                tally.record_failure(Failure::unsent(timeout));
                return false;
            }
            tally.lateness.record(lateness);
        }
    }
    let bodies = &shared.bodies;
    let body = &bodies[usize::try_from(ticket.index % bodies.len() as u64).unwrap_or(0)];
    let response = session.send(shared.endpoint.request(body.clone()), timeout).await;
    let latency = ticket.due.elapsed();
    let answer = match &response {
        Ok(response) => Answer::read(response).map(|answer| (answer, response)),
        Err(failure) => Err(failure.clone()),
    };
    let mut tally = shared.tally.lock();
    tally.reconnects += session.take_reconnects();
    match answer {
        Ok((answer, response)) => {
            tally.record_success(latency, &answer);
            if let Some(outputs) = &mut tally.outputs {
                outputs.insert(ticket.index, answer.output(response));
            }
            false
        }
        Err(refusal) if refusal.kind.is_refusal() => {
            tally.record_refusal(latency, refusal);
            false
        }
        Err(failure) => {
            let unreachable = failure.kind == FailureKind::Connect;
            tally.record_failure(failure);
            unreachable
        }
    }
}

/// Processor time that this process has taken, in all its threads.
fn process_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use http::StatusCode;

    use super::*;
    use crate::test_server::{Reply, TestServer, answer};

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn endpoint() -> Endpoint {
        Endpoint::new(Uri::from_static("/infer"), Form::Plain, None, SECOND)
    }

    async fn generator(server: &TestServer, concurrency: usize) -> Generator<TestServer> {
        Generator::connect(server, endpoint(), concurrency, || Alarm::Runtime).await.unwrap()
    }

    fn round(schedule: Schedule, limit: Limit) -> Round {
        let bodies = ["a", "b", "c"].map(Bytes::from).into();
        Round { bodies, schedule, limit, keep_outputs: false }
    }

    async fn measure(server: &TestServer, concurrency: usize, round: Round) -> Measured {
        let mut never = Interrupt::on(std::future::pending());
        generator(server, concurrency).await.run(round, &mut never, &mut |_| {}).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_loop_keeps_exactly_so_many_requests_in_flight() {
        let server = TestServer::new(|_, _| Reply::good_after(10 * MS, false));
        let measured = measure(&server, 5, round(Schedule::Closed, Limit::requests(100))).await;
        let tally = &measured.tally;
        assert_eq!((tally.begun, tally.succeeded, tally.failed()), (100, 100, 0));
        assert_eq!(server.seen.in_flight_max.load(Ordering::Relaxed), 5);
        // 100 requests of 10 ms, always five at once: less in flight would have taken longer.
        assert_eq!(measured.elapsed, 200 * MS);
        assert_eq!(server.seen.connections.load(Ordering::Relaxed), 5);
        assert_eq!((tally.latency.min(), tally.latency.max()), (10 * MS, 10 * MS));
        assert!(tally.lateness.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_take_turns() {
        let server = TestServer::new(|_, _| Reply::good(false));
        measure(&server, 1, round(Schedule::Closed, Limit::requests(7))).await;
        let requests = server.seen.requests.lock();
        let sent: Vec<_> = requests.iter().map(|(_, body)| &body[..]).collect();
        assert_eq!(sent.concat(), b"abcabca");
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_loop_ends_at_its_time() {
        let server = TestServer::new(|_, _| Reply::good_after(10 * MS, false));
        let limit = Limit { requests: None, duration: Some(SECOND) };
        let measured = measure(&server, 2, round(Schedule::Closed, limit)).await;
        assert_eq!((measured.tally.succeeded, measured.elapsed), (200, SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_loop_sends_at_a_constant_rate_however_slow_the_server() {
        let server = TestServer::new(|_, _| Reply::good_after(300 * MS, false));
        let start = Instant::now();
        let limit = Limit { requests: None, duration: Some(2 * SECOND) };
        let measured = measure(&server, 64, round(Schedule::Open { rate: 100.0 }, limit)).await;
        assert_eq!(measured.tally.succeeded, 200);
        for (index, (arrived, _)) in server.seen.requests.lock().iter().enumerate() {
            let due = start + 10 * MS * u32::try_from(index).unwrap();
            assert!(arrived.saturating_duration_since(due) <= MS, "request {index}");
        }
        assert!(measured.tally.lateness.max() <= MS);
        assert_eq!(measured.tally.backlogged, 0);
        assert!(measured.tally.latency.max() <= 301 * MS);
    }

    /// One stall of 900 ms among 1,000 requests that take no time.
    fn stalling() -> TestServer {
        TestServer::new(|number, _| match number {
            500 => Reply::good_after(900 * MS, false),
            _ => Reply::good(false),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_loop_counts_a_stall_for_every_request_that_was_due_meanwhile() {
        let open = round(Schedule::Open { rate: 1000.0 }, Limit::requests(1000));
        let tally = measure(&stalling(), 1, open).await.tally;
        assert_eq!(tally.succeeded, 1000);
        // Requests 500 to 999 were due while the one connection waited, and went out when the
        // stall was over, 900 to 401 ms after they were due.
        let median = tally.latency.quantile(0.501);
        assert!((400 * MS..=405 * MS).contains(&median), "{median:?}");
        let p99 = tally.latency.quantile(0.99);
        assert!((888 * MS..=892 * MS).contains(&p99), "{p99:?}");
        assert!(
            (899 * MS..=901 * MS).contains(&tally.lateness.max()),
            "{:?}",
            tally.lateness.max()
        );
        // The last of them was due a millisecond before the stall was over.
        assert!((498..=500).contains(&tally.backlogged), "{}", tally.backlogged);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_loop_counts_the_same_stall_once() {
        let closed = round(Schedule::Closed, Limit::requests(1000));
        let tally = measure(&stalling(), 1, closed).await.tally;
        assert_eq!(tally.latency.max(), 900 * MS);
        assert_eq!(tally.latency.quantile(0.999), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_sent_within_the_timeout_is_counted_and_not_sent() {
        // One connection, 10 requests per second due, 500 ms each: two of ten can be sent.
        let server = TestServer::new(|_, _| Reply::good_after(500 * MS, false));
        let open = round(Schedule::Open { rate: 10.0 }, Limit::requests(100));
        let tally = measure(&server, 1, open).await.tally;
        let unsent = tally.failures[&FailureKind::Unsent].count;
        assert_eq!(tally.succeeded + unsent, 100);
        assert_eq!(server.seen.requests.lock().len() as u64, tally.succeeded);
        assert!((20..=24).contains(&tally.succeeded), "{}", tally.succeeded);
        assert!(tally.latency.max() <= 1500 * MS, "{:?}", tally.latency.max());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_told_apart_and_the_rest_goes_on() {
        let server = TestServer::new(|number, _| match number {
            0 => Reply::BreakOff(5 * MS),
            1 => Reply::good_after(5 * SECOND, false),
            2 => Reply::After(MS, StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"none"}"#.into()),
            3 => Reply::After(MS, StatusCode::OK, "no answer".into()),
            4 => Reply::After(MS, StatusCode::BAD_REQUEST, "plain".into()),
            _ => Reply::good_after(MS, true),
        });
        let measured = measure(&server, 1, round(Schedule::Closed, Limit::requests(10))).await;
        let tally = &measured.tally;
        let found: Vec<_> = tally
            .failures
            .iter()
            .map(|(kind, failures)| (kind.name(), kind.status(), failures.count, &*failures.sample))
            .collect();
        assert_eq!(
            found,
            [
                ("timeout", None, 1, "no answer within 1s"),
                ("reset", None, 1, "connection closed before message completed"),
                (
                    "malformed",
                    None,
                    1,
                    "the answer is not as expected: expected ident at line 1 column 2"
                ),
                ("status", Some(400), 1, "plain"),
                ("status", Some(503), 1, "none"),
            ],
        );
        assert_eq!((tally.succeeded, tally.cached, tally.latency.max()), (5, 5, MS));
        // One after the reset, one after the time-out.
        assert_eq!((tally.reconnects, server.seen.connections.load(Ordering::Relaxed)), (2, 3));
        assert_eq!(measured.elapsed, 5 * MS + SECOND + 8 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_no_failures_and_have_latencies_of_their_own() {
        let server = TestServer::new(|number, _| match number % 2 {
            0 => Reply::good_after(50 * MS, false),
            _ => {
                let full = r#"{"error":"the queue is full"}"#;
                Reply::After(2 * MS, StatusCode::TOO_MANY_REQUESTS, full.into())
            }
        });
        let measured = measure(&server, 1, round(Schedule::Closed, Limit::requests(10))).await;
        let tally = &measured.tally;
        assert_eq!((tally.succeeded, tally.refusals.count(), tally.failed()), (5, 5, 0));
        assert_eq!((tally.latency.min(), tally.refusals.max()), (50 * MS, 2 * MS));
        assert_eq!(tally.refusal_sample.as_deref(), Some("the queue is full"));
        assert_eq!((tally.done(), measured.abandoned), (10, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_closed_between_requests_costs_no_error() {
        let server = TestServer::new(|_, _| Reply::LastOnConnection(answer("w", false, "[]")));
        let tally = measure(&server, 2, round(Schedule::Closed, Limit::requests(20))).await.tally;
        assert_eq!(
            (tally.succeeded, tally.failed(), tally.reconnects),
            (20, 0, 18),
            "{:?}",
            tally.failures
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_refuses_every_connection_is_an_error_at_once() {
        let server = TestServer::refusing();
        let connected =
            Generator::connect(&server, endpoint(), 3, || Alarm::Runtime).await.map(drop);
        assert_eq!(connected.unwrap_err().kind, FailureKind::Connect);
    }

    #[tokio::test(start_paused = true)]
    async fn an_interrupt_ends_at_once_and_keeps_what_was_measured() {
        let server = TestServer::new(|number, _| {
            Reply::good_after(if number < 20 { 10 * MS } else { 900 * MS }, false)
        });
        let mut generator = generator(&server, 2).await;
        let mut interrupt = Interrupt::on(tokio::time::sleep(500 * MS));
        let closed = round(Schedule::Closed, Limit::requests(1000));
        let mut watched = 0;
        let measured = generator.run(closed, &mut interrupt, &mut |_| watched += 1).await;
        assert!(interrupt.is_raised());
        assert_eq!(measured.elapsed, 500 * MS);
        assert_eq!((measured.tally.succeeded, measured.abandoned), (20, 2));
        assert_eq!(measured.tally.failed(), 0);
        assert!(watched >= 5);
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_are_kept_from_round_to_round_and_outputs_where_they_are_wanted() {
        let server = TestServer::new(|_, body| {
            let output = format!("[{}]", body[0]);
            Reply::After(MS, StatusCode::OK, answer("w", false, &output))
        });
        let mut generator = generator(&server, 3).await;
        let mut never = Interrupt::on(std::future::pending());
        for _ in 0..2 {
            let round = round(Schedule::Closed, Limit::requests(3));
            let round = Round { keep_outputs: true, ..round };
            let measured = generator.run(round, &mut never, &mut |_| {}).await;
            let outputs: Vec<_> = measured.tally.outputs.unwrap().into_values().collect();
            assert_eq!(outputs, ["[97]", "[98]", "[99]"]);
        }
        assert_eq!(server.seen.connections.load(Ordering::Relaxed), 3);
    }
}
