//! A pinned session, request by request and answer by answer.

use super::admit::DISCARD;
use super::*;
use crate::command;
use crate::resp::Args;
use crate::resp::encode::line as request;
use crate::session::pubsub::{Frame, Sort};

fn admit(pin: &mut Pin, line: &str) -> Admit {
    let request = request(line);
    let args = Args::new(&request);
    pin.admit(&command::classify(args), args.clone().nth(1), args.remaining(), 2, false)
}

#[test]
fn a_transaction_holds_the_pin_until_it_ends_and_is_answered() {
    for end in ["EXEC", "DISCARD"] {
        let mut pin = Pin::default();
        for line in ["WATCH k", "MULTI", "SET k 1", end] {
            assert_eq!(admit(&mut pin, line), Admit::Forward);
            assert!(!pin.is_free());
        }
        for _ in 0..4 {
            assert!(!pin.is_free());
            pin.received(Frame::Reply);
        }
        assert!(pin.is_free(), "{end}");
    }
}

#[test]
fn confirmations_inside_a_transaction_count_and_may_follow_it() {
    let mut pin = Pin::default();
    for line in ["MULTI", "SUBSCRIBE a b", "GET k", "EXEC"] {
        admit(&mut pin, line);
        pin.received(Frame::Reply);
    }
    let queued = vec![Awaited::by("subscribe", 3), Awaited::by("get", 2)];
    let confirmed = |n: u8| format!("*3\r\n$9\r\nsubscribe\r\n$1\r\n{}\r\n:{n}\r\n", if n == 1 { 'a' } else { 'b' });
    pin.executed(queued, &[confirmed(1).as_bytes(), confirmed(2).as_bytes()], 100);
    admit(&mut pin, "SUBSCRIBE c");
    // The reply to GET, which has no place in the array any more.
    assert!(!pin.received(Frame::Reply));
    assert!(pin.received(Frame::Confirmed { sort: Sort::Channel, left: 3 }));
    assert_eq!((pin.subscribed, pin.is_quiet(), pin.can_move()), ([3, 0, 0], true, true));
}

#[test]
fn an_end_with_arguments_is_none() {
    for lines in [["WATCH k", "UNWATCH x"], ["MULTI", "EXEC x"], ["MULTI", "DISCARD x"], ["WATCH k", "RESET x"]] {
        let mut pin = Pin::default();
        for line in lines {
            admit(&mut pin, line);
            pin.received(Frame::Reply);
        }
        assert!(!pin.is_free() && !pin.leaving, "{lines:?}");
    }
}

#[test]
fn a_forbidden_command_in_a_transaction_aborts_it() {
    let mut pin = Pin::default();
    admit(&mut pin, "MULTI");
    assert!(matches!(admit(&mut pin, "SHUTDOWN"), Admit::Answer(_)));
    assert_eq!(admit(&mut pin, "EXEC"), Admit::Instead(DISCARD));
    pin.received(Frame::Reply);
    assert_eq!(pin.expected(Frame::Reply), Some(Expect::Abort));
}

fn must_wait(pin: &Pin, line: &str) -> bool {
    pin.must_wait(&command::classify(Args::new(&request(line))))
}

#[test]
fn nothing_goes_out_behind_what_blocks_or_logs_in() {
    for line in ["BLPOP q 0", "WAIT 1 0", "HELLO 3", "AUTH x", "CLIENT TRACKING on"] {
        let mut pin = Pin::default();
        admit(&mut pin, line);
        for behind in ["GET k", "SUBSCRIBE a", "PING", "QUIT"] {
            assert!(must_wait(&pin, behind), "{behind} behind {line}");
        }
        pin.received(Frame::Reply);
        assert!(!must_wait(&pin, "GET k") && pin.is_free(), "{line}");
    }
    // So it is behind a transaction that concerns all nodes.
    let mut pin = Pin::default();
    ["MULTI", "SCRIPT FLUSH", "EXEC"].into_iter().for_each(|line| _ = admit(&mut pin, line));
    assert!(must_wait(&pin, "GET k"));
    // In a transaction nothing blocks.
    let mut pin = Pin::default();
    admit(&mut pin, "MULTI");
    admit(&mut pin, "BLPOP q 0");
    assert!(!must_wait(&pin, "EXEC"));
}

#[test]
fn what_is_subscribed_and_tracked_is_told_again_and_its_answers_are_not_the_clients() {
    let mut pin = Pin::default();
    admit(&mut pin, "SUBSCRIBE a");
    let frame: &[u8] = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
    let confirmed = Frame::Confirmed { sort: Sort::Channel, left: 1 };
    pin.received(confirmed);
    pin.note(frame, 1000);
    pin.tracking(b"*3\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\non\r\n");
    assert!(pin.can_move() && pin.lasts());
    let again = pin.restore();
    assert_eq!(again.len(), 2);
    assert!(again[1].ends_with(b"SUBSCRIBE\r\n$1\r\na\r\n"));
    for frame in [Frame::Reply, confirmed] {
        assert!(!pin.is_free());
        assert_eq!(pin.expected(frame), Some(Expect::Restored));
        assert!(pin.received(frame));
    }
    assert!(pin.is_quiet() && !pin.is_free());
    // A watch cannot be told anybody.
    let mut pin = Pin::default();
    admit(&mut pin, "WATCH k");
    assert!(!pin.can_move());
}

#[test]
fn a_failed_subscription_frees() {
    let mut pin = Pin::default();
    admit(&mut pin, "SUBSCRIBE");
    assert!(pin.listens() && pin.must_wait(&command::classify(Args::new(b"*1\r\n$4\r\nPING\r\n"))));
    assert!(pin.received(Frame::Reply));
    assert!(pin.is_free());
}

#[test]
fn sharded_channels_are_counted_by_themselves() {
    let mut pin = Pin::default();
    for (line, sort, left) in
        [("SUBSCRIBE a", Sort::Channel, 1), ("SSUBSCRIBE s", Sort::Shard, 1), ("UNSUBSCRIBE a", Sort::Channel, 0)]
    {
        admit(&mut pin, line);
        pin.received(Frame::Confirmed { sort, left });
        assert!(!pin.is_free(), "{line}");
    }
    admit(&mut pin, "SUNSUBSCRIBE");
    assert!(pin.received(Frame::Confirmed { sort: Sort::Shard, left: 0 }));
    assert!(pin.is_free());
}

#[test]
fn a_subscription_behind_the_last_unsubscribe_keeps_the_pin() {
    let mut pin = Pin::default();
    admit(&mut pin, "SUBSCRIBE a b");
    for left in [1, 2] {
        pin.received(Frame::Confirmed { sort: Sort::Channel, left });
    }
    admit(&mut pin, "UNSUBSCRIBE");
    admit(&mut pin, "SUBSCRIBE x");
    for (left, answered) in [(1, false), (0, true), (1, true)] {
        assert_eq!(pin.received(Frame::Confirmed { sort: Sort::Channel, left }), answered);
        assert!(!pin.is_free());
    }
    assert!(pin.is_quiet());
}

#[test]
fn the_last_unsubscribe_frees() {
    let mut pin = Pin::default();
    admit(&mut pin, "SUBSCRIBE a b");
    for left in [1, 2] {
        pin.received(Frame::Confirmed { sort: Sort::Channel, left });
    }
    assert!(pin.is_quiet() && !pin.is_free());
    admit(&mut pin, "UNSUBSCRIBE");
    pin.received(Frame::Confirmed { sort: Sort::Channel, left: 1 });
    pin.received(Frame::Confirmed { sort: Sort::Channel, left: 0 });
    assert!(pin.is_free());
}
