//! The threads: one per worker, and the control thread.

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
use crate::telemetry::spans::SpanSender;
use crate::worker::Worker;

/// The interval at which a worker evicts idle upstream connections.
const EVICTION_INTERVAL: Duration = Duration::from_secs(5);

/// A thread that serves requests.
#[derive(Debug)]
pub(crate) struct WorkerThread {
    handle: WorkerHandle,
    thread: JoinHandle<()>,
}

/// A handle to send sockets to a worker.
#[derive(Debug, Clone)]
pub(crate) struct WorkerHandle {
    /// The state of the worker.
    pub(crate) worker: Arc<Worker>,
    commands: mpsc::UnboundedSender<WorkerCommand>,
}

#[derive(Debug)]
enum WorkerCommand {
    Serve(Arc<Acceptor>, std::net::TcpListener),
    Stop,
}

impl WorkerHandle {
    /// Lets the worker accept connections from a socket.
    pub(crate) fn serve(&self, acceptor: Arc<Acceptor>, socket: std::net::TcpListener) {
        let _ = self.commands.send(WorkerCommand::Serve(acceptor, socket));
    }
}

impl WorkerThread {
    pub(crate) fn start(index: usize, worker: Arc<Worker>) -> std::io::Result<Self> {
        let (commands, receiver) = mpsc::unbounded_channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let main = run_worker(Arc::clone(&worker), receiver);
        let thread =
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || runtime.block_on(main))?;
        Ok(Self { handle: WorkerHandle { worker, commands }, thread })
    }

    /// Returns a handle to the worker.
    pub(crate) fn handle(&self) -> WorkerHandle {
        self.handle.clone()
    }

    /// Stops the worker and drops its tasks.
    pub(crate) fn stop(self) {
        let _ = self.handle.commands.send(WorkerCommand::Stop);
        let _ = self.thread.join();
    }
}

async fn run_worker(worker: Arc<Worker>, mut commands: mpsc::UnboundedReceiver<WorkerCommand>) {
    let mut eviction = tokio::time::interval(EVICTION_INTERVAL);
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(WorkerCommand::Serve(acceptor, socket)) => match tokio::net::TcpListener::from_std(socket) {
                    Ok(listener) => drop(tokio::spawn(acceptor.run(listener))),
                    Err(error) => tracing::error!(%error, "cannot accept connections from a socket"),
                },
                Some(WorkerCommand::Stop) | None => return,
            },
            _ = eviction.tick() => worker.pool.evict_idle(),
        }
    }
}

/// The thread for everything that is not part of a request: admin endpoints, signals, health checks and key fetches.
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
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { handle, stop, thread })
    }

    /// Returns a handle to spawn tasks on the thread.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Stops the thread and drops its tasks.
    pub(crate) fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// Creates the state of a worker. All workers share `tokens`.
pub(crate) fn new_worker(
    tokens: &TokenCache,
    log: LogWriter,
    metrics: Arc<Shard>,
    spans: Option<SpanSender>,
) -> Arc<Worker> {
    Arc::new(Worker::new(tokens.clone(), RequestTelemetry::new(log, metrics, spans)))
}

/// Returns the number of workers: the configured one, or the number of CPUs available to the process.
pub(crate) fn count(config: &Config) -> usize {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    config.process.worker_threads.map_or(available, usize::from)
}
