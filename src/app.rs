//! The composition root, and the only module that knows everybody: compile, bind, serve, drain.
//!
//! Each worker is a thread with a runtime, sockets, connections and caches of its own. A thread beside them does what
//! belongs to nobody's request.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use crate::auth::TokenCache;
use crate::compile::compile;
use crate::config::{Code, Config, Diagnostic, Loaded};
use crate::drain::{self, Trigger};
use crate::listen::{Acceptor, socket};
use crate::snapshot::Snapshot;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Metrics;
use crate::worker::Worker;

/// How often a worker looks after its idle connections.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// What is not in the config file.
pub struct Options {
    /// Where access-log lines go.
    pub access_log: Box<dyn Write + Send>,
}

impl Default for Options {
    fn default() -> Self {
        Self { access_log: Box::new(std::io::stdout()) }
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    control: Runtime,
    current: Arc<ArcSwap<Snapshot>>,
    binds: Vec<RunningBind>,
    workers: Vec<WorkerThread>,
    log: Log,
    drain_timeout: Duration,
}

/// A socket in service.
#[derive(Debug)]
struct RunningBind {
    local: SocketAddr,
    trigger: Trigger,
}

#[derive(Debug)]
struct WorkerThread {
    worker: Arc<Worker>,
    sockets: mpsc::UnboundedSender<(Arc<Acceptor>, std::net::TcpListener)>,
    thread: JoinHandle<()>,
}

impl Gateway {
    /// Compiles the config, binds every address, and serves. When anything fails, nothing listens.
    ///
    /// # Errors
    /// What is wrong with the config, or which address can't be bound.
    pub fn start(loaded: Loaded, options: Options) -> Result<Self, Vec<Diagnostic>> {
        let metrics = Arc::new(Metrics::default());
        let snapshot = compile(&loaded, &metrics, 1)?;
        let process = &loaded.config.process;
        let count = worker_count(&loaded.config);
        let failed = |what: &str, error: std::io::Error| {
            let place = loaded.source.place(0, 0, "");
            vec![Diagnostic::error(place, format!("{what}: {error}"))]
        };
        let log =
            Log::start("access-log", options.access_log).map_err(|e| failed("no thread for the access log", e))?;
        let sockets = bind_all(&loaded.config, &snapshot, count)?;
        let control =
            Builder::new_current_thread().enable_all().build().map_err(|e| failed("no thread for control", e))?;
        let current = Arc::new(ArcSwap::from_pointee(snapshot));
        let cache = process.token_cache.max_size.0 / count as u64;
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let worker = Arc::new(Worker::new(TokenCache::new(cache), log.lines(), metrics.shard()));
            let thread = WorkerThread::start(index, worker).map_err(|e| failed("no thread for a worker", e))?;
            workers.push(thread);
        }
        let drain_timeout = process.drain_timeout.get();
        let mut gateway = Self { control, current, binds: Vec::new(), workers, log, drain_timeout };
        for (address, sockets) in sockets {
            gateway.serve(address, sockets);
        }
        Ok(gateway)
    }

    /// Hands one bind's sockets to the workers.
    fn serve(&mut self, address: SocketAddr, sockets: Vec<std::net::TcpListener>) {
        let trigger = drain::new();
        let connections = Arc::new(AtomicUsize::new(0));
        let local = sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(address);
        for (thread, socket) in self.workers.iter().zip(sockets) {
            let acceptor = Acceptor {
                worker: Arc::clone(&thread.worker),
                current: Arc::clone(&self.current),
                address,
                connections: Arc::clone(&connections),
                drain: trigger.drain(),
            };
            let _ = thread.sockets.send((Arc::new(acceptor), socket));
        }
        self.binds.push(RunningBind { local, trigger });
    }

    /// Where the gateway listens, in the order of the config's binds.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.binds.iter().map(|bind| bind.local).collect()
    }

    /// The config that is in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Waits for SIGTERM or SIGINT.
    pub fn wait_for_signal(&self) {
        self.control.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
                (Ok(mut terminate), Ok(mut interrupt)) => {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                }
                _ => std::future::pending().await,
            }
        });
    }

    /// Stops accepting, lets requests in flight finish within `drainTimeout`, and ends. Whether all finished.
    pub fn shutdown(self) -> bool {
        let Self { control, binds, workers, log, drain_timeout, .. } = self;
        let finished = control.block_on(async {
            let pulls: Vec<_> = binds.into_iter().map(|b| tokio::spawn(b.trigger.pull(drain_timeout))).collect();
            let mut all = true;
            for pull in pulls {
                all &= pull.await.unwrap_or(false);
            }
            all
        });
        for WorkerThread { sockets, thread, .. } in workers {
            drop(sockets);
            let _ = thread.join();
        }
        log.close();
        finished
    }
}

impl WorkerThread {
    fn start(index: usize, worker: Arc<Worker>) -> std::io::Result<Self> {
        let (sockets, mut incoming) = mpsc::unbounded_channel::<(Arc<Acceptor>, std::net::TcpListener)>();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mine = Arc::clone(&worker);
        let work = async move {
            let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
            loop {
                tokio::select! {
                    socket = incoming.recv() => match socket {
                        Some((acceptor, socket)) => match tokio::net::TcpListener::from_std(socket) {
                            Ok(listener) => drop(tokio::spawn(acceptor.run(listener))),
                            Err(error) => tracing::error!(%error, "a socket could not be taken into service"),
                        },
                        None => return,
                    },
                    _ = housekeeping.tick() => mine.pool.sweep(),
                }
            }
        };
        let thread =
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || runtime.block_on(work))?;
        Ok(Self { worker, sockets, thread })
    }
}

/// Threads that serve requests: what the config says, or the CPUs that this process may use.
fn worker_count(config: &Config) -> usize {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    config.process.worker_threads.map_or(available, usize::from)
}

/// Every bind's sockets, or what is wrong with all those that can't be had.
#[allow(clippy::type_complexity, reason = "a list of pairs")]
fn bind_all(
    config: &Config,
    snapshot: &Snapshot,
    count: usize,
) -> Result<Vec<(SocketAddr, Vec<std::net::TcpListener>)>, Vec<Diagnostic>> {
    let (mut bound, mut errors) = (Vec::new(), Vec::new());
    for (written, bind) in config.binds.iter().zip(&snapshot.binds) {
        match bind_one(bind.address, written.address.is_none(), count) {
            Ok(sockets) => bound.push((bind.address, sockets)),
            Err(error) => {
                let message = format!("{} can't be listened on: {error}", bind.address);
                errors.push(Diagnostic::error(written.place.clone(), message).code(Code::Address));
            }
        }
    }
    if errors.is_empty() { Ok(bound) } else { Err(errors) }
}

/// The default address is both families; on a machine without IPv6 it is the other one.
fn bind_one(address: SocketAddr, is_default: bool, count: usize) -> std::io::Result<Vec<std::net::TcpListener>> {
    match socket::bind(address, count) {
        Err(error) if is_default && error.kind() != std::io::ErrorKind::AddrInUse => {
            socket::bind(SocketAddr::from(([0, 0, 0, 0], address.port())), count).map_err(|_| error)
        }
        result => result,
    }
}
