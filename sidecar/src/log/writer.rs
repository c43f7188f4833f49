//! The one thread that writes to standard output.

use std::{
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use super::line::Lines;
use crate::clock::Clock;

/// Buffers that may wait for a slow reader of our output: about 2 MiB of lines.
const QUEUE: usize = 64;

/// The queue to the writer thread.
#[derive(Debug)]
pub(crate) struct Log {
    /// Taken away to end the writer.
    queue: Mutex<Option<SyncSender<Vec<u8>>>>,
    lost: AtomicU64,
    lost_ever: AtomicU64,
}

/// What the writer thread needs; nothing is written before it runs.
#[derive(Debug)]
pub(crate) struct Writer(Receiver<Vec<u8>>);

impl Log {
    /// A log and its reading end.
    pub(crate) fn new() -> (Self, Writer) {
        let (sender, receiver) = sync_channel(QUEUE);
        let log = Self { queue: Mutex::new(Some(sender)), lost: AtomicU64::new(0), lost_ever: AtomicU64::new(0) };
        (log, Writer(receiver))
    }

    /// Lines lost since the process began.
    pub(crate) fn lost_ever(&self) -> u64 {
        self.lost_ever.load(Ordering::Relaxed)
    }

    /// Queues complete lines; counts them as lost when the queue is full.
    pub(super) fn send(&self, lines: Vec<u8>) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = match queue.as_ref().map(|queue| queue.try_send(lines)) {
            Some(Ok(())) | None => return,
            Some(Err(TrySendError::Full(lines) | TrySendError::Disconnected(lines))) => lines,
        };
        let count = refused.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.lost.fetch_add(count, Ordering::Relaxed);
        self.lost_ever.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes nothing more; the writer ends when it has written what was queued.
    pub(crate) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

impl Writer {
    /// The lines that were queued, for tests that start no writer.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> String {
        String::from_utf8_lossy(&self.0.try_iter().flatten().collect::<Vec<u8>>()).into_owned()
    }

    /// Starts the thread that writes to `out` until the log is closed or `out` fails.
    ///
    /// # Errors
    /// The operating system has no thread for it.
    pub(crate) fn start(
        self,
        shared: std::sync::Arc<crate::state::Shared>,
        out: impl Write + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            // Nobody reads our output any more: lines are then lost, and counted, as the queue is full.
            let _ = self.write_all(&shared.log, &shared.clock, out);
        })
    }

    fn write_all(&self, log: &Log, clock: &Clock, mut out: impl Write) -> io::Result<()> {
        while let Ok(lines) = self.0.recv() {
            out.write_all(&lines)?;
            let lost = log.take_lost();
            if lost > 0 {
                let mut note = Lines::default();
                note.lost(clock.now_millis(), lost);
                out.write_all(&note.take())?;
            }
            out.flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_full_queue_counts_lines_and_says_so() {
        let (log, writer) = Log::new();
        for _ in 0..QUEUE {
            log.send(b"{}\n".to_vec());
        }
        log.send(b"{}\n{}\n".to_vec());
        log.send(b"{}\n".to_vec());
        assert_eq!(log.lost_ever(), 3);
        log.close();
        let mut out = Vec::new();
        writer.write_all(&log, &Clock::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), QUEUE + 1);
        let note: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!((note["event"].as_str(), note["count"].as_u64()), (Some("decisions_lost"), Some(3)));
    }
}
