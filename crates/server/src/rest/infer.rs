//! Inference requests: from bytes to the service and back.

use std::time::{Duration, Instant};

use http::header::CONTENT_ENCODING;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::{Body, Incoming};
use inferring_protocol::fields::{DRAINING, ELSEWHERE};
use inferring_protocol::rest::v2::{Message, OutputForm};
use inferring_protocol::rest::{Chunks, headers, plain, v2};
use inferring_types::{
    Announced, Blame, Deadline, InferRequest, InferResponse, ModelMetadata, ModelSelector,
    NamedTensor, RequestId, Reservation, SegmentedBytes, ServiceError, TensorName,
};

use super::body::{compress_by, receive_by};
use super::{error_response, insert_request_id, offload, respond};
use crate::Node;
use crate::account::Curiosity;
use crate::config::ServerConfig;

/// Answers a request in the plain form.
pub(super) async fn plain(
    node: &dyn Node,
    config: &ServerConfig,
    asked: ModelSelector<'_>,
    head: &Parts,
    body: &mut Incoming,
) -> Response<Chunks> {
    let mut intake = Intake::new(config);
    let result = async {
        let body = intake.receive(node, asked, head, body).await?;
        let model = node.model(asked)?;
        let decoded = {
            let model = model.clone();
            let is_long = body.len() > LONG_JSON;
            let decode = move || plain::decode_request(body.contiguous(), &model);
            offload::run_by(intake.deadline(), is_long, decode).await??
        };
        intake.identify(decoded.id);
        intake.is_step = decoded.sequence.is_some();
        let request = InferRequest {
            priority: decoded.priority,
            sequence: decoded.sequence,
            ..intake.request(&model, asked, vec![decoded.input], Vec::new())
        };
        let response = node.infer(request).await?;
        let (id, account) = (response.id.clone(), intake.curiosity.account_of(&response));
        let is_long = bytes_as_json(&response, |_| false) > LONG_DATA;
        let encode = move || plain::encode_response(&response, decoded.allow_nan);
        let body = offload::run_by(intake.written_by(), is_long, encode).await??;
        let body = Chunks::one(body);
        let mut response = respond(StatusCode::OK, "application/json", body);
        insert_request_id(&mut response, &id);
        account.insert_into(response.headers_mut());
        compress_by(intake.written_by(), &head.headers, response).await
    };
    result.await.unwrap_or_else(|error| intake.refuse(&error))
}

/// Answers a request of Open Inference Protocol v2.
pub(super) async fn v2(
    node: &dyn Node,
    config: &ServerConfig,
    asked: ModelSelector<'_>,
    head: &Parts,
    body: &mut Incoming,
) -> Response<Chunks> {
    let mut intake = Intake::new(config);
    let result = async {
        let body = intake.receive(node, asked, head, body).await?;
        let (response, form) = intake.ask_v2(node, asked, body).await?;
        let (id, account) = (response.id.clone(), intake.curiosity.account_of(&response));
        let message = write_v2(intake.written_by(), response, form).await?;
        let content_type = match message.json_length {
            Some(_) => "application/octet-stream",
            None => "application/json",
        };
        let mut http = respond(StatusCode::OK, content_type, message.body);
        if let Some(length) = message.json_length {
            http.headers_mut().insert(headers::JSON_LENGTH, HeaderValue::from(length));
        }
        insert_request_id(&mut http, &id);
        account.insert_into(http.headers_mut());
        compress_by(intake.written_by(), &head.headers, http).await
    };
    let mut answer = result.await.unwrap_or_else(|error| intake.refuse(&error));
    if intake.curiosity.is_a_gateways() && !node.is_ready(None) {
        answer.headers_mut().insert(DRAINING, HeaderValue::from_static("1"));
    }
    answer
}

/// JSON of more bytes takes longer to read than other connections should wait.
const LONG_JSON: usize = 64 * 1024;

/// The same of elements to be written as JSON.
const LONG_DATA: usize = 32 * 1024;

async fn decode_v2(
    deadline: Deadline,
    body: SegmentedBytes,
    json_length: Option<usize>,
    model: &ModelMetadata,
) -> Result<v2::DecodedRequest, ServiceError> {
    if json_length == Some(0) {
        return v2::decode_raw_request(&body, model);
    }
    let is_long = json_length.unwrap_or(body.len()) > LONG_JSON;
    offload::run_by(deadline, is_long, move || v2::decode_request(body, json_length)).await?
}

/// Writes an answer as its request wants it.
pub(super) async fn write_v2(
    deadline: Deadline,
    response: InferResponse,
    form: OutputForm,
) -> Result<Message, ServiceError> {
    let is_long = bytes_as_json(&response, |output| form.is_binary(output)) > LONG_DATA;
    offload::run_by(deadline, is_long, move || v2::encode_response(&response, &form)).await?
}

/// How many bytes of a response are to be turned into JSON.
fn bytes_as_json(response: &InferResponse, is_binary: impl Fn(&TensorName) -> bool) -> usize {
    let as_json = response.outputs.iter().filter(|output| !is_binary(&output.name));
    as_json.map(|output| output.tensor.size_bytes()).sum()
}

/// What is known of a request while it is read, so that an error can be answered to it.
pub(super) struct Intake<'a> {
    config: &'a ServerConfig,
    arrived: Instant,
    curiosity: Curiosity,
    pub(super) id: Option<RequestId>,
    timeout: Option<Duration>,
    json_length: Option<usize>,
    /// Whether it is one of a sequence.
    is_step: bool,
    /// Kept until the request is handed over.
    reservation: Reservation,
}

impl<'a> Intake<'a> {
    fn new(config: &'a ServerConfig) -> Self {
        let arrived = Instant::now();
        let curiosity = Curiosity::at(arrived);
        Self {
            config,
            arrived,
            curiosity,
            id: None,
            timeout: None,
            json_length: None,
            is_step: false,
            reservation: Reservation::default(),
        }
    }

    /// Reads the head's meaning and the whole body, if that is worth it.
    async fn receive(
        &mut self,
        node: &dyn Node,
        asked: ModelSelector<'_>,
        head: &Parts,
        body: &mut Incoming,
    ) -> Result<SegmentedBytes, ServiceError> {
        self.curiosity = Curiosity::read(self.arrived, &head.headers);
        self.id = headers::request_id(&head.headers)?;
        self.timeout = headers::timeout(&head.headers)?;
        self.anticipate(node, asked, head, body)?;
        let body = receive_by(self.deadline(), self.config, head, body).await?;
        self.json_length = headers::json_length(&head.headers, body.len())?;
        Ok(body)
    }

    /// What a gateway says in a frame: how long it waits, and where the body's head ends.
    pub(super) fn framed(
        config: &'a ServerConfig,
        timeout: Duration,
        json_length: Option<usize>,
    ) -> Self {
        Self { timeout: Some(timeout), json_length, ..Self::new(config) }
    }

    /// Asks for what a body of v2 says: the answer, and how it is wanted.
    pub(super) async fn ask_v2(
        &mut self,
        node: &dyn Node,
        asked: ModelSelector<'_>,
        body: SegmentedBytes,
    ) -> Result<(InferResponse, OutputForm), ServiceError> {
        let model = node.model(asked)?;
        let decoded = decode_v2(self.deadline(), body, self.json_length, &model).await?;
        self.identify(decoded.id);
        self.limit(decoded.timeout);
        self.is_step = decoded.sequence.is_some();
        let request = InferRequest {
            priority: decoded.priority,
            sequence: decoded.sequence,
            ..self.request(&model, asked, decoded.inputs, decoded.outputs)
        };
        Ok((node.infer(request).await?, decoded.form))
    }

    /// Asks whether a large body is worth receiving. One that is too large is told so elsewhere.
    fn anticipate(
        &mut self,
        node: &dyn Node,
        asked: ModelSelector<'_>,
        head: &Parts,
        body: &Incoming,
    ) -> Result<(), ServiceError> {
        let body_bytes = body.size_hint().exact();
        let large = Announced::LARGE + 1..=self.config.body_size_max.as_u64();
        if body.is_end_stream() || body_bytes.is_some_and(|bytes| !large.contains(&bytes)) {
            return Ok(());
        }
        let tensor_bytes = match body_bytes {
            Some(bytes) if !head.headers.contains_key(CONTENT_ENCODING) => {
                let length = usize::try_from(bytes).unwrap_or(usize::MAX);
                let json = headers::json_length(&head.headers, length)?;
                json.map(|json| bytes - json as u64)
            }
            _ => None,
        };
        let deadline = self.deadline();
        let announced = Announced { model: asked, body_bytes, tensor_bytes, deadline };
        let anticipated = node.anticipate(&announced);
        // The id in the body, where there is one, is not known.
        self.reservation = anticipated.inspect_err(|_| self.identify(None))?;
        Ok(())
    }

    /// Until when the answer is to be written.
    pub(super) fn written_by(&self) -> Deadline {
        /// What a step of a sequence has done is done, so its client has to hear of it.
        const IN_THE_END: Duration = Duration::from_secs(3600);
        if self.is_step { Deadline::after(Instant::now(), IN_THE_END) } else { self.deadline() }
    }

    /// By what is known so far.
    fn deadline(&self) -> Deadline {
        Deadline::after(self.arrived, self.timeout.unwrap_or(self.config.request_timeout))
    }

    /// Takes the id in the body, which goes before the one in the head; makes one where there
    /// is none.
    fn identify(&mut self, in_body: Option<RequestId>) {
        self.id = in_body.or_else(|| self.id.take()).or_else(|| Some(RequestId::generate()));
    }

    /// Takes the time-out in the body, where it is the shorter one.
    fn limit(&mut self, in_body: Option<Duration>) {
        self.timeout = [self.timeout, in_body].into_iter().flatten().min();
    }

    /// The answer to a request that cannot be answered.
    fn refuse(&self, error: &ServiceError) -> Response<Chunks> {
        let mut response = error_response(error, self.id.as_ref());
        self.curiosity.account_of_error(error).insert_into(response.headers_mut());
        let is_the_clients = error.blame() == Blame::Client;
        if is_the_clients && error.is_retryable() && self.curiosity.is_a_gateways() {
            response.headers_mut().insert(ELSEWHERE, HeaderValue::from_static("1"));
        }
        response
    }

    /// The request, which is handed over at once: what was kept free for it is its own now.
    fn request(
        &mut self,
        model: &ModelMetadata,
        asked: ModelSelector<'_>,
        inputs: Vec<NamedTensor>,
        outputs: Vec<TensorName>,
    ) -> InferRequest {
        self.reservation = Reservation::default();
        InferRequest {
            id: self.id.clone().unwrap_or_else(RequestId::generate),
            model: model.name.clone(),
            // A text that is no version would have named no model.
            version: asked.version.and_then(|text| text.parse().ok()),
            inputs,
            outputs,
            deadline: self.deadline(),
            priority: None,
            sequence: None,
        }
    }
}
