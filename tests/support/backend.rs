//! A scripted HTTP/1 backend that records the exact bytes of every request.

use std::collections::VecDeque;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::TEST_TIMEOUT;
use super::wire::Message;

/// A request as the backend received it.
pub type RecordedRequest = Message;

type Script = dyn Fn(&RecordedRequest) -> ScriptedResponse + Send + Sync;

/// A scripted HTTP/1 backend on a free port. Dropping it closes the listener and all connections.
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    script: Box<Script>,
    /// Runs the script as soon as the head has arrived, and reads the body afterwards.
    on_head: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    requests: Vec<RecordedRequest>,
    streams: Vec<TcpStream>,
    closed_connections: usize,
    stopping: bool,
}

/// A gate that a scripted response waits for until the test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Creates a closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the gate for current and future waiters.
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(open, TEST_TIMEOUT, |open| !*open).unwrap());
    }
}

/// A response that the backend sends step by step.
#[derive(Clone, Default)]
pub struct ScriptedResponse {
    steps: Vec<Step>,
    close: bool,
}

#[derive(Clone)]
enum Step {
    Send(Vec<u8>),
    Delay(Duration),
    Wait(Gate),
    Hang,
    Echo,
}

impl ScriptedResponse {
    /// Creates a response with a `content-length`.
    pub fn new(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let length = body.as_ref().len().to_string();
        Self::head(status, &[headers, &[("content-length", &length)]].concat()).send(body)
    }

    /// Creates a 200 with a short text body.
    pub fn ok() -> Self {
        Self::new(200, &[("content-type", "text/plain")], "ok")
    }

    /// Creates a response that consists of a head; further steps may add a body.
    pub fn head(status: u16, headers: &[(&str, &str)]) -> Self {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        Self::raw(format!("HTTP/1.1 {status} Status\r\n{lines}\r\n"))
    }

    /// Creates a complete chunked response.
    pub fn chunked(status: u16, headers: &[(&str, &str)], chunks: &[&str]) -> Self {
        let head = Self::head(status, &[headers, &[("transfer-encoding", "chunked")]].concat());
        chunks.iter().fold(head, |response, chunk| response.chunk(chunk)).send("0\r\n\r\n")
    }

    /// Creates a response from raw bytes.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::default().send(bytes)
    }

    /// Never responds and keeps the connection open.
    pub fn hang() -> Self {
        Self::default().then(Step::Hang)
    }

    /// Closes the connection without a response.
    pub fn close() -> Self {
        Self::default().then_close()
    }

    /// Adds raw bytes.
    pub fn send(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Send(bytes.as_ref().to_vec()))
    }

    /// Adds one chunk of a chunked body.
    pub fn chunk(self, content: &str) -> Self {
        self.send(format!("{:x}\r\n{content}\r\n", content.len()))
    }

    /// Adds a pause.
    pub fn delay(self, pause: Duration) -> Self {
        self.then(Step::Delay(pause))
    }

    /// Adds a wait until the test opens the gate.
    pub fn wait(self, gate: &Gate) -> Self {
        self.then(Step::Wait(gate.clone()))
    }

    /// Stops sending and keeps the connection open.
    pub fn stall(self) -> Self {
        self.then(Step::Hang)
    }

    /// Echoes every byte until the peer closes, as an upgraded protocol does after a 101.
    pub fn echo(self) -> Self {
        self.then(Step::Echo).then_close()
    }

    /// Closes the connection after the last step, even in the middle of the message.
    pub fn then_close(mut self) -> Self {
        self.close = true;
        self
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

impl Backend {
    /// Starts a backend that runs the script once a request is complete.
    pub fn start(script: impl Fn(&RecordedRequest) -> ScriptedResponse + Send + Sync + 'static) -> Self {
        Self::start_with(Box::new(script), false)
    }

    /// Starts a backend that runs the script as soon as the head of a request has arrived.
    pub fn start_on_head(script: impl Fn(&RecordedRequest) -> ScriptedResponse + Send + Sync + 'static) -> Self {
        Self::start_with(Box::new(script), true)
    }

    /// Starts a backend that responds with 200 to every request.
    pub fn ok() -> Self {
        Self::start(|_| ScriptedResponse::ok())
    }

    /// Starts a backend that sends these responses in order, and a 500 for each further request.
    pub fn with_responses(responses: impl IntoIterator<Item = ScriptedResponse>) -> Self {
        let queue: Mutex<VecDeque<_>> = Mutex::new(responses.into_iter().collect());
        Self::start(move |_| {
            queue
                .lock()
                .unwrap()
                .pop_front()
                .unwrap_or_else(|| ScriptedResponse::new(500, &[], "no scripted response is left"))
        })
    }

    fn start_with(script: Box<Script>, on_head: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { script, on_head, state: Mutex::default(), changed: Condvar::new() });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Returns the listening address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the requests received so far, including incomplete ones.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.lock().requests.clone()
    }

    /// Returns the number of connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.lock().streams.len()
    }

    /// Waits for `count` complete requests, and returns all requests received so far.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<RecordedRequest> {
        let missing = |state: &mut State| state.requests.iter().filter(|request| request.complete).count() < count;
        let (state, timeout) =
            self.shared.changed.wait_timeout_while(self.shared.lock(), TEST_TIMEOUT, missing).unwrap();
        assert!(!timeout.timed_out(), "fewer than {count} requests within {TEST_TIMEOUT:?}: {:?}", state.requests);
        state.requests.clone()
    }
}

impl Backend {
    /// Waits until `count` connections have been closed.
    #[track_caller]
    pub fn wait_for_closed(&self, count: usize) {
        let missing = |state: &mut State| state.closed_connections < count;
        let (_state, timeout) =
            self.shared.changed.wait_timeout_while(self.shared.lock(), TEST_TIMEOUT, missing).unwrap();
        assert!(!timeout.timed_out(), "fewer than {count} connections closed within {TEST_TIMEOUT:?}");
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        for stream in &self.shared.lock().streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(self.address); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        let mut threads = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            let mut state = self.lock();
            if state.stopping {
                break;
            }
            state.streams.push(stream.try_clone().unwrap());
            drop(state);
            let shared = Arc::clone(&self);
            threads.push(std::thread::spawn(move || {
                let _ = shared.connection(&stream);
                let _ = stream.shutdown(Shutdown::Both);
                shared.lock().closed_connections += 1;
                shared.changed.notify_all();
            }));
        }
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn connection(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while let Some(mut request) = Message::read_head(&mut reader)? {
            let index = {
                let mut state = self.lock();
                state.requests.push(request.clone());
                state.requests.len() - 1
            };
            let early_response = self.on_head.then(|| (self.script)(&request));
            if let Some(response) = &early_response {
                self.respond(stream, response)?;
            } else if request.header("expect").is_some() {
                (&mut &*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let framing = request.request_framing();
            if !matches!(&early_response, Some(response) if response.close) {
                request.read_body(&mut reader, framing, |so_far| {
                    self.lock().requests[index].clone_from(so_far);
                    self.changed.notify_all();
                })?;
            }
            let response = match early_response {
                Some(response) => response,
                None => {
                    let response = (self.script)(&request);
                    self.respond(stream, &response)?;
                    response
                }
            };
            let close_requested =
                request.headers.values("connection").iter().any(|option| option.eq_ignore_ascii_case("close"));
            if response.close || close_requested {
                break;
            }
        }
        Ok(())
    }

    fn respond(&self, mut stream: &TcpStream, response: &ScriptedResponse) -> std::io::Result<()> {
        for step in &response.steps {
            match step {
                Step::Send(bytes) => stream.write_all(bytes)?,
                Step::Delay(pause) => self.pause(*pause),
                Step::Wait(gate) => gate.wait(),
                Step::Hang => self.pause(Duration::MAX),
                Step::Echo => {
                    let mut bytes = [0; 4096];
                    loop {
                        match stream.read(&mut bytes)? {
                            0 => break,
                            read => stream.write_all(&bytes[..read])?,
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Sleeps for `pause`, or until the backend is dropped.
    fn pause(&self, pause: Duration) {
        let pause = pause.min(Duration::from_secs(3600));
        drop(self.changed.wait_timeout_while(self.lock(), pause, |state| !state.stopping).unwrap());
    }
}
