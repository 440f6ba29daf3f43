//! What every sink must keep: it takes lines in order, says when it left some out, and never holds up the writer.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;

use super::*;

/// What a sink has handed on; can be held up.
#[derive(Clone)]
struct Output {
    written: Arc<Mutex<Vec<u8>>>,
    gate: Arc<Mutex<()>>,
    entered: mpsc::SyncSender<()>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.entered.try_send(());
        let _open = self.gate.lock().unwrap();
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One row for each kind; a new kind without a row is a red test.
type Make = fn(Output) -> Box<dyn Sink>;
const SINKS: &[(&str, Make)] = &[("stdout", |output| Box::new(StdoutSink::to(output).unwrap()))];

fn output() -> (Output, mpsc::Receiver<()>) {
    let (entered, receiver) = mpsc::sync_channel(1);
    (Output { written: Arc::default(), gate: Arc::default(), entered }, receiver)
}

#[test]
fn every_kind_is_here() {
    let kinds: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(kinds, SINKS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    assert_eq!(kinds, crate::config::SINKS, "each has a key that switches it on");
}

#[test]
fn hands_on_everything_in_order() {
    for (_, make) in SINKS {
        let (output, _entered) = output();
        let mut sink = make(output.clone());
        for n in 0..20 {
            sink.offer(&Bytes::from(format!("{{\"seq\":{n}}}\n")));
        }
        sink.close();
        let expected: String = (0..20).map(|n| format!("{{\"seq\":{n}}}\n")).collect();
        assert_eq!(String::from_utf8(output.written.lock().unwrap().clone()).unwrap(), expected);
    }
}

#[test]
fn never_blocks_and_counts_what_it_left_out() {
    for (_, make) in SINKS {
        let (output, entered) = output();
        let mut sink = make(output.clone());
        let closed = output.gate.lock().unwrap();
        sink.offer(&Bytes::from_static(b"{\"seq\":0}\n"));
        entered.recv_timeout(Duration::from_secs(10)).unwrap();
        for n in 1..10_000 {
            sink.offer(&Bytes::from(format!("{{\"seq\":{n}}}\n")));
        }
        drop(closed);
        // The note goes out with the first lines that have room again.
        let has_note =
            || String::from_utf8_lossy(&output.written.lock().unwrap()).contains("sink_suppressed");
        let mut more = 0;
        while !has_note() {
            sink.offer(&Bytes::from_static(b"{\"more\":1}\n"));
            more += 1;
            std::thread::yield_now();
        }
        sink.close();
        let text = String::from_utf8(output.written.lock().unwrap().clone()).unwrap();
        let mut total = 0;
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            total += value["count"].as_u64().unwrap_or(1);
        }
        assert!(total <= 10_000 + more);
        assert!(total >= 10_000, "lines vanished uncounted: {total}");
    }
}
