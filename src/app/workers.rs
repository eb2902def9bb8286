//! The threads: one for each worker, and one for control.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};

use crate::auth::TokenCache;
use crate::config::Config;
use crate::listen::Acceptor;
use crate::telemetry::log::Lines;
use crate::telemetry::metrics::Shard;
use crate::telemetry::spans::Spans;
use crate::worker::Worker;

/// How often a worker looks after its idle connections.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// A thread that serves requests.
#[derive(Debug)]
pub(super) struct WorkerThread {
    post: Post,
    thread: JoinHandle<()>,
}

/// The way to a worker.
#[derive(Debug, Clone)]
pub(super) struct Post {
    /// What the worker has of its own.
    pub(super) worker: Arc<Worker>,
    orders: mpsc::UnboundedSender<Order>,
}

#[derive(Debug)]
enum Order {
    Serve(Arc<Acceptor>, std::net::TcpListener),
    End,
}

impl Post {
    /// Hands the worker a socket.
    pub(super) fn serve(&self, acceptor: Arc<Acceptor>, socket: std::net::TcpListener) {
        let _ = self.orders.send(Order::Serve(acceptor, socket));
    }
}

impl WorkerThread {
    pub(super) fn start(index: usize, worker: Arc<Worker>) -> std::io::Result<Self> {
        let (orders, incoming) = mpsc::unbounded_channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let work = work(Arc::clone(&worker), incoming);
        let thread =
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || runtime.block_on(work))?;
        Ok(Self { post: Post { worker, orders }, thread })
    }

    /// The way to it.
    pub(super) fn post(&self) -> Post {
        self.post.clone()
    }

    /// Ends it, with whatever it still does.
    pub(super) fn end(self) {
        let _ = self.post.orders.send(Order::End);
        let _ = self.thread.join();
    }
}

async fn work(worker: Arc<Worker>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Serve(acceptor, socket)) => match tokio::net::TcpListener::from_std(socket) {
                    Ok(listener) => drop(tokio::spawn(acceptor.run(listener))),
                    Err(error) => tracing::error!(%error, "a socket could not be taken into service"),
                },
                Some(Order::End) | None => return,
            },
            _ = housekeeping.tick() => worker.pool.sweep(),
        }
    }
}

/// The thread for what belongs to nobody's request.
#[derive(Debug)]
pub(super) struct ControlThread {
    handle: Handle,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl ControlThread {
    pub(super) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { handle, end, thread })
    }

    /// To spawn tasks on it.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends it, with all its tasks.
    pub(super) fn end(self) {
        let _ = self.end.send(());
        let _ = self.thread.join();
    }
}

/// What a new worker has of its own, and the tokens that all of them share.
pub(super) fn worker(tokens: &TokenCache, log: Lines, metrics: Arc<Shard>, spans: Option<Spans>) -> Arc<Worker> {
    Arc::new(Worker::new(tokens.clone(), log, metrics, spans))
}

/// Threads that serve requests: what the config says, or the CPUs that this process may use.
pub(super) fn count(config: &Config) -> usize {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    config.process.worker_threads.map_or(available, usize::from)
}
