//! Tests of the pure parts of `compare`, under the ordinary harness (`compare` itself has none).
//!
//! Starts nothing and measures nothing.

mod figures;
mod requests;

use figures::*;
use requests::{Answer, Requests};

#[test]
fn csv_line_is_read_from_the_right() {
    let text = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
                \"SET a,\"\"b\",\"71428.57\",\"0.400\",\"0.100\",\"0.391\",\"0.700\",\"1.103\",\"9.111\"\n";
    assert_eq!(load_from_csv(text), Some(Load { per_second: 71428.57, p50_ms: 0.391, p99_ms: 1.103 }));
    assert_eq!(load_from_csv(text.lines().next().unwrap_or_default()), None, "the heading is not a result");
    assert_eq!(load_from_csv("Error from server: no\n"), None);
}

#[test]
fn proc_files() {
    assert_eq!(schedstat_nanos("123456 789 10\n"), Some(123_456));
    assert_eq!(schedstat_nanos(""), None);
    let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 7 13 0 0 20 0 1 0 100";
    assert_eq!(user_nanos(stat), Some(70_000_000));
    let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
    assert_eq!(status_bytes(status, "VmRSS"), Some(1024 * 1024));
    assert_eq!(status_bytes(status, "VmHWM"), Some(2048 * 1024));
    assert_eq!(status_bytes(status, "VmSwap"), None);
}

#[test]
fn info_replies() {
    let info =
        "# Replication\r\nrole:slave\r\nmaster_link_status:up\r\ncmdstat_get:calls=12,usec=3,usec_per_call=0.2\r\n";
    assert_eq!(info_field(info, "master_link_status"), Some("up"));
    assert_eq!(info_field(info, "master_link"), None);
    assert_eq!(command_calls(info, "get"), 12);
    assert_eq!(command_calls(info, "set"), 0);
}

#[test]
fn instruction_and_system_call_counts() {
    assert_eq!(callgrind_total("events: Ir\nfn=x\n1 2\ntotals: 345\n"), Some(345));
    assert_eq!(callgrind_total("events: Ir\nsummary: 99\n"), Some(99));
    assert_eq!(callgrind_total("events: Ir\n"), None);
    let perf = "# started\n\n250000,,raw_syscalls:sys_enter,1001234,100.00,,\n<not counted>,,syscalls:sys_enter_read,0,0.00,,\n";
    assert_eq!(perf_counts(perf), vec![("raw_syscalls:sys_enter".to_owned(), 250_000)]);
    let strace = "% time     seconds  usecs/call     calls    errors syscall\n\
                  ------ ----------- ----------- --------- --------- ----------------\n \
                  60.00    0.001000           1      1000         3 recvfrom\n \
                  40.00    0.000500           1       500           sendto\n\
                  ------ ----------- ----------- --------- --------- ----------------\n\
                  100.00    0.001500           1      1500         3 total\n";
    assert_eq!(strace_counts(strace), vec![("recvfrom".to_owned(), 1000), ("sendto".to_owned(), 500)]);
}

#[test]
fn medians_and_bars() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    assert_eq!(median(&[]), None);
    assert!(keeps(Some(0.7), 0.7));
    assert!(!keeps(Some(0.71), 0.7));
    assert!(!keeps(None, 0.7), "nothing measured is not a pass");
}

#[test]
fn columns_line_up() {
    let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    let text = aligned(&[row(&["a", "bb", "1"]), row(&["ccc", "d", "100"])]);
    assert_eq!(text, "a    bb    1\nccc  d   100\n");
}

fn answers(pieces: &[&[u8]]) -> Vec<Answer> {
    let mut requests = Requests::default();
    let mut found = Vec::new();
    for piece in pieces {
        requests.scan(piece, |answer| found.push(answer));
    }
    found
}

#[test]
fn floor_answers_each_request_once_however_it_is_split() {
    let bytes: &[u8] =
        b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\n\r\n\r\n\r\n*1\r\n$4\r\nping\r\n\
                         *3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$4\r\nsave\r\n";
    let expected = vec![Answer::Value, Answer::Ok, Answer::Pong, Answer::Ok];
    assert_eq!(answers(&[bytes]), expected);
    for at in 0..bytes.len() {
        let (head, tail) = bytes.split_at(at);
        assert_eq!(answers(&[head, tail]), expected, "split at {at}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(answers(&single), expected);
    assert_eq!(answers(&[bytes.get(..bytes.len() - 1).unwrap_or_default()]).len(), 3, "the last is not complete");
}
