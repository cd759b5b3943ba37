//! How an operator's wish reaches the keeper, and how he hears of it.
//!
//! Invariant: nobody who listens slowly, or has gone, delays what goes on.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Act;

/// Lines that may wait for who asked.
const LINES: usize = 64;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    pub to: Option<String>,
    /// Writes are held no longer than this.
    pub limit: Duration,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// It cannot begin; nothing was done.
    Refused(String),
    Said(String),
    Done(String),
    Failed(String),
}

#[derive(Debug, Clone)]
pub struct Order {
    pub wish: Wish,
    pub say: mpsc::Sender<Line>,
}

impl PartialEq for Order {
    fn eq(&self, other: &Self) -> bool {
        self.wish == other.wish && self.say.same_channel(&other.say)
    }
}

/// What the hands did of the switchover of that number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub number: u64,
    pub news: News,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Something on the way worth telling.
    Said(String),
    Did(Act, Result<String, String>),
}

/// What arrives at the keeper.
#[derive(Debug, PartialEq)]
pub enum Message {
    Order(Order),
    Report(Report),
}

/// Where wishes are left, one for each set.
#[derive(Debug, Clone)]
pub struct Door(mpsc::Sender<Message>);

impl Door {
    pub(in crate::discovery) fn new(to: mpsc::Sender<Message>) -> Self {
        Self(to)
    }

    /// Asks for a switchover; what comes is told until its end. `None`: redweir is about to stop.
    pub async fn ask(&self, wish: Wish) -> Option<mpsc::Receiver<Line>> {
        let (say, lines) = mpsc::channel(LINES);
        self.0.send(Message::Order(Order { wish, say })).await.ok()?;
        Some(lines)
    }
}
