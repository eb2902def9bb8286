//! The threads: one for each worker, and one for control.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};

use crate::auth::TokenCache;
use crate::config::Config;
use crate::listen::Acceptor;
use crate::telemetry::log_writer::LogWriter;
use crate::telemetry::metrics::Shard;
use crate::telemetry::request_telemetry::RequestTelemetry;
use crate::telemetry::spans::Spans;
use crate::worker::Worker;

/// How often a worker looks after its idle connections.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// A thread that serves requests.
#[derive(Debug)]
pub(crate) struct WorkerThread {
    handle: WorkerHandle,
    thread: JoinHandle<()>,
}

/// The way to a worker.
#[derive(Debug, Clone)]
pub(crate) struct WorkerHandle {
    /// What the worker has of its own.
    pub(crate) worker: Arc<Worker>,
    commands: mpsc::UnboundedSender<WorkerCommand>,
}

#[derive(Debug)]
enum WorkerCommand {
    Serve(Arc<Acceptor>, std::net::TcpListener),
    Stop,
}

impl WorkerHandle {
    /// Hands the worker a socket.
    pub(crate) fn serve(&self, acceptor: Arc<Acceptor>, socket: std::net::TcpListener) {
        let _ = self.commands.send(WorkerCommand::Serve(acceptor, socket));
    }
}

impl WorkerThread {
    pub(crate) fn start(index: usize, worker: Arc<Worker>) -> std::io::Result<Self> {
        let (orders, incoming) = mpsc::unbounded_channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let work = run_worker(Arc::clone(&worker), incoming);
        let thread =
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || runtime.block_on(work))?;
        Ok(Self { handle: WorkerHandle { worker, commands: orders }, thread })
    }

    /// The way to it.
    pub(crate) fn handle(&self) -> WorkerHandle {
        self.handle.clone()
    }

    /// Ends it, with whatever it still does.
    pub(crate) fn stop(self) {
        let _ = self.handle.commands.send(WorkerCommand::Stop);
        let _ = self.thread.join();
    }
}

async fn run_worker(worker: Arc<Worker>, mut orders: mpsc::UnboundedReceiver<WorkerCommand>) {
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(WorkerCommand::Serve(acceptor, socket)) => match tokio::net::TcpListener::from_std(socket) {
                    Ok(listener) => drop(tokio::spawn(acceptor.run(listener))),
                    Err(error) => tracing::error!(%error, "a socket could not be taken into service"),
                },
                Some(WorkerCommand::Stop) | None => return,
            },
            _ = housekeeping.tick() => worker.pool.evict_idle(),
        }
    }
}

/// The thread for what belongs to nobody's request.
#[derive(Debug)]
pub(crate) struct ControlThread {
    handle: Handle,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl ControlThread {
    pub(crate) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { handle, stop: end, thread })
    }

    /// To spawn tasks on it.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends it, with all its tasks.
    pub(crate) fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// What a new worker has of its own, and the tokens that all of them share.
pub(crate) fn new_worker(
    tokens: &TokenCache,
    log: LogWriter,
    metrics: Arc<Shard>,
    spans: Option<Spans>,
) -> Arc<Worker> {
    Arc::new(Worker::new(tokens.clone(), RequestTelemetry::new(log, metrics, spans)))
}

/// Threads that serve requests: what the config says, or the CPUs that this process may use.
pub(crate) fn count(config: &Config) -> usize {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    config.process.worker_threads.map_or(available, usize::from)
}
