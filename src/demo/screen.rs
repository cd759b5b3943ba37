//! The live picture in the terminal.
//!
//! Drawing is pure: a [`Scene`] in, cells out. Must not ask anybody anything. Invariant: the terminal is given back as it was, also
//! when something fails or panics.

use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};
use ratatui::{DefaultTerminal, Frame};

use super::load::Tally;
use super::report::{milliseconds, writes_word};
use super::watch::{Seen, Watch};

/// Everything on the screen.
pub struct Scene<'a> {
    /// What listens where, and what to try.
    pub guide: &'a [String],
    pub watch: &'a Watch,
    /// Address and process of each node; `None` while it is dead.
    pub processes: &'a [(String, Option<u32>)],
    pub reads: &'a Tally,
    pub writes: &'a Tally,
}

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Quit,
    KillMaster,
}

/// The terminal while the demo has it.
pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// # Errors
    /// It is no terminal.
    pub fn open() -> io::Result<Screen> {
        Ok(Screen { terminal: ratatui::try_init()? })
    }

    /// # Errors
    /// The terminal went away.
    pub fn show(&mut self, scene: &Scene<'_>) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, scene)).map(drop)
    }

    /// Waits so long for a key that means something.
    ///
    /// # Errors
    /// The terminal went away.
    pub fn key(&self, wait: Duration) -> io::Result<Option<Key>> {
        if !event::poll(wait)? {
            return Ok(None);
        }
        let Event::Key(key) = event::read()? else { return Ok(None) };
        if key.kind != KeyEventKind::Press {
            return Ok(None);
        }
        Ok(match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
            KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
            KeyCode::Char('k') => Some(Key::KillMaster),
            _ => None,
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn draw(frame: &mut Frame<'_>, scene: &Scene<'_>) {
    let nodes = scene.watch.world.nodes.len() as u16;
    let [guide, table, load, events] = Layout::vertical([
        Constraint::Length(scene.guide.len() as u16),
        Constraint::Length(nodes + 3),
        Constraint::Length(4),
        Constraint::Min(4),
    ])
    .areas(frame.area());
    let lines: Vec<Line<'_>> = scene.guide.iter().map(|l| Line::from(l.as_str())).collect();
    frame.render_widget(Paragraph::new(lines), guide);
    frame.render_widget(node_table(scene), table);
    frame.render_widget(load_lines(scene), load);
    frame.render_widget(event_lines(scene.watch, events.height.saturating_sub(2)), events);
}

fn node_table<'a>(scene: &'a Scene<'_>) -> Table<'a> {
    let head = ["node", "pid", "state", "reads/s", "writes/s", "lag B", "lag", "reads"];
    let all: f64 = scene.watch.world.nodes.iter().map(|n| n.reads_per_second).sum();
    let rows = scene.watch.world.nodes.iter().map(|node| node_row(node, scene.processes, all));
    let widths = [
        Constraint::Length(16),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Min(8),
    ];
    let title = format!(" {} · {} failover(s) ", writes_word(&scene.watch.world), scene.watch.failovers);
    Table::new(rows, widths)
        .header(Row::new(head).style(Style::new().add_modifier(Modifier::BOLD)))
        .block(Block::bordered().title(title))
}

fn node_row<'a>(node: &'a Seen, processes: &[(String, Option<u32>)], all_reads: f64) -> Row<'a> {
    let pid = match processes.iter().find(|(address, _)| *address == node.address) {
        Some((_, Some(pid))) => pid.to_string(),
        Some((_, None)) => "dead".to_owned(),
        None => String::new(),
    };
    let color = match (node.state.as_str(), node.in_rotation) {
        ("master", _) => Color::Yellow,
        (_, true) => Color::Green,
        _ => Color::Red,
    };
    let share = if all_reads > 0.0 { (node.reads_per_second / all_reads * 16.0).round() as usize } else { 0 };
    let (lag_bytes, lag) = match node.lag {
        Some(lag) => (lag.bytes.to_string(), milliseconds(lag.time)),
        None => (String::new(), String::new()),
    };
    Row::new([
        Cell::from(node.address.as_str()),
        Cell::from(pid),
        Cell::from(Span::styled(node.state.as_str(), Style::new().fg(color))),
        Cell::from(format!("{:.0}", node.reads_per_second)),
        Cell::from(format!("{:.0}", node.writes_per_second)),
        Cell::from(lag_bytes),
        Cell::from(lag),
        Cell::from(Span::styled("█".repeat(share), Style::new().fg(color))),
    ])
}

fn load_lines<'a>(scene: &Scene<'_>) -> Paragraph<'a> {
    let line = |name: &str, tally: &Tally| {
        let text = format!(
            "{name:<7}{:>9} acknowledged, {} failed, longest gap {}",
            tally.done,
            tally.failed,
            milliseconds(tally.longest_gap)
        );
        Line::from(text)
    };
    Paragraph::new(vec![line("reads", scene.reads), line("writes", scene.writes)])
        .block(Block::bordered().title(" load of the demo "))
}

fn event_lines(watch: &Watch, rows: u16) -> Paragraph<'_> {
    let skip = watch.events.len().saturating_sub(usize::from(rows));
    let lines = watch.events.iter().skip(skip).map(|(at, text)| {
        let style = match text.starts_with("FAILOVER") {
            true => Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD),
            false => Style::new(),
        };
        Line::styled(format!("{:>6.1} s  {text}", at.as_secs_f64()), style)
    });
    Paragraph::new(lines.collect::<Vec<_>>())
        .block(Block::bordered().title(" what happened · k: kill the master · q: end "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn one_screen_of_80_by_24_shows_guide_nodes_load_and_events() {
        let mut watch = Watch::new();
        let nodes: Vec<String> = (1..=4)
            .map(|n| {
                let state = if n == 1 { "master" } else { "replica" };
                format!(r#"{{"address":"127.0.0.1:1500{n}","state":"{state}","in_rotation":true,"lag_bytes":{n}}}"#)
            })
            .collect();
        watch.look(
            &format!(r#"{{"sets":[{{"shards":[{{"writes":"open","term":1}}],"nodes":[{}]}}]}}"#, nodes.join(",")),
            "",
        );
        watch.note("FAILOVER 1: seen".into());
        let guide: Vec<String> = (0..8).map(|n| format!("guide {n}")).collect();
        let processes = [("127.0.0.1:15001".to_owned(), Some(4711)), ("127.0.0.1:15002".to_owned(), None)];
        let (reads, writes) = (Tally { done: 900, ..Tally::default() }, Tally { failed: 3, ..Tally::default() });
        let scene = Scene { guide: &guide, watch: &watch, processes: &processes, reads: &reads, writes: &writes };
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &scene)).unwrap();
        let text = terminal.backend().to_string();
        for part in
            ["guide 7", "127.0.0.1:15004", "4711", "dead", "writes open", "900 acknowledged", "3 failed", "FAILOVER 1"]
        {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }
}
