//! Writing of log lines by a dedicated thread.
//!
//! Each writer (a worker, or the application log) has its own bounded buffer. When the sink stalls, lines are dropped and
//! counted, and requests are not delayed.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::sync::lock;

/// The limit on the buffered bytes of one writer.
const MAX_BUFFERED_BYTES: usize = 4 << 20;
/// The time for which lines are collected before they are written together.
const BATCH_DELAY: Duration = Duration::from_millis(5);
/// The limit on the time that shutdown waits for a stalled sink.
const SHUTDOWN_FLUSH: Duration = Duration::from_secs(1);

/// The thread that writes log lines to one sink.
#[derive(Debug)]
pub struct LogThread {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    buffers: Mutex<Vec<Arc<Buffer>>>,
    pending: Mutex<bool>,
    wake: Condvar,
    closing: AtomicBool,
    done: AtomicBool,
    dropped_lines: AtomicU64,
}

#[derive(Debug, Default)]
struct Buffer(Mutex<Vec<u8>>);

/// A buffered writer to a [`LogThread`]. Clones share the buffer.
#[derive(Debug, Clone)]
pub struct LogWriter {
    buffer: Arc<Buffer>,
    shared: Arc<Shared>,
}

impl LogThread {
    /// Starts the thread that writes to `sink`.
    ///
    /// # Errors
    /// Returns an error when the thread cannot be created.
    pub fn start(name: &str, mut sink: Box<dyn Write + Send>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            buffers: Mutex::default(),
            pending: Mutex::new(false),
            wake: Condvar::new(),
            closing: AtomicBool::new(false),
            done: AtomicBool::new(false),
            dropped_lines: AtomicU64::new(0),
        });
        let thread_shared = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            thread_shared.run(&mut sink);
            thread_shared.done.store(true, Ordering::Release);
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Creates a writer with a new buffer.
    pub fn writer(&self) -> LogWriter {
        let buffer = Arc::new(Buffer::default());
        lock(&self.shared.buffers).push(Arc::clone(&buffer));
        LogWriter { buffer, shared: Arc::clone(&self.shared) }
    }

    /// Returns the number of lines that were dropped because the sink stalled.
    pub fn dropped_lines(&self) -> u64 {
        self.shared.dropped_lines.load(Ordering::Relaxed)
    }

    /// Writes the buffered lines and stops the thread. Does not wait longer than a second for a stalled sink.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.notify();
        let Some(thread) = lock(&self.thread).take() else { return };
        let deadline = std::time::Instant::now() + SHUTDOWN_FLUSH;
        while !self.shared.done.load(Ordering::Acquire) && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() || self.shared.done.load(Ordering::Acquire) {
            let _ = thread.join();
        }
    }
}

impl LogWriter {
    /// Returns the number of lines, of all writers, that were dropped because the sink stalled.
    pub fn dropped_lines(&self) -> u64 {
        self.shared.dropped_lines.load(Ordering::Relaxed)
    }

    /// Appends complete lines, including their line breaks. Never waits for the sink.
    pub fn write(&self, lines: &[u8]) {
        let mut buffer = lock(&self.buffer.0);
        if buffer.len() + lines.len() > MAX_BUFFERED_BYTES {
            self.shared.dropped_lines.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = buffer.is_empty();
        buffer.extend_from_slice(lines);
        drop(buffer);
        if first {
            self.shared.notify();
        }
    }
}

impl Shared {
    fn notify(&self) {
        *lock(&self.pending) = true;
        self.wake.notify_one();
    }

    /// Runs the thread: waits for lines, collects more for a moment, and writes them.
    fn run(&self, sink: &mut dyn Write) {
        let mut spare = Vec::new();
        loop {
            let mut pending = lock(&self.pending);
            while !*pending {
                pending = self.wake.wait(pending).unwrap_or_else(PoisonError::into_inner);
            }
            *pending = false;
            drop(pending);
            let closing = self.closing.load(Ordering::Acquire);
            if !closing {
                std::thread::sleep(BATCH_DELAY);
            }
            let buffers: Vec<Arc<Buffer>> = lock(&self.buffers).clone();
            for buffer in &buffers {
                std::mem::swap(&mut *lock(&buffer.0), &mut spare);
                // a sink that fails (a closed pipe) must not end the gateway
                let _ = sink.write_all(&spare);
                spare.clear();
                if spare.capacity() > MAX_BUFFERED_BYTES / 4 {
                    spare = Vec::new();
                }
            }
            let _ = sink.flush();
            // an empty buffer that only this list refers to has no writer anymore
            drop(buffers);
            lock(&self.buffers).retain(|buffer| Arc::strong_count(buffer) > 1 || !lock(&buffer.0).is_empty());
            if closing {
                return;
            }
        }
    }
}

/// The application log writes complete lines to the same kind of buffer.
impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for LogWriter {
    type Writer = EventWriter<'a>;

    fn make_writer(&'a self) -> EventWriter<'a> {
        EventWriter(self)
    }
}

/// Writes each formatted event at once.
#[derive(Debug)]
pub struct EventWriter<'a>(&'a LogWriter);

impl Write for EventWriter<'_> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.write(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Sink(mpsc::Sender<Vec<u8>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).ok();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_of_all_writers_arrive_complete_and_closing_flushes_them() {
        let (tx, rx) = mpsc::channel();
        let log = LogThread::start("test-log", Box::new(Sink(tx))).unwrap();
        let writers = [log.writer(), log.writer()];
        for n in 0..100 {
            for (index, writer) in writers.iter().enumerate() {
                writer.write(format!("{index} {n}\n").as_bytes());
            }
        }
        log.close();
        let text = String::from_utf8(rx.try_iter().flatten().collect()).unwrap();
        for index in 0..2 {
            let written: Vec<_> = text.lines().filter_map(|l| l.strip_prefix(&format!("{index} "))).collect();
            assert_eq!(written, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        }
        assert_eq!(log.dropped_lines(), 0);
    }

    #[test]
    fn a_stalled_sink_drops_and_counts_lines_without_blocking() {
        struct Stalled(mpsc::Receiver<()>);
        impl Write for Stalled {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (release, blocked) = mpsc::channel();
        let log = LogThread::start("stalled", Box::new(Stalled(blocked))).unwrap();
        let writer = log.writer();
        let line = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            writer.write(&line);
        }
        assert!(log.dropped_lines() > 0);
        drop(release);
        log.close();
    }
}
