//! The command line: every setting as a flag, made from the table of settings, and the subcommands.
//!
//! Reads text only; what it means is settled together with the file. Must not exit or print.
//! Invariant: a flag has the name, the help and the default of its setting; none is written down twice.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};

use super::fault::{At, Faults, env_name};
use super::given::{Given, Kind};
use super::settings::{self, About};

const LAYOUT: &str = "\
Every flag is also a key of the file (without the dashes); a flag overrides the file. Durations: 250ms, 10s, 1m 30s. \
Sizes: bytes, or 1k = 1000, 1kb = 1024, likewise m, mb, g, gb. Lists: a,b,c here, [\"a\", \"b\"] in the file; tables: a=1,b=2 \
here, { \"a\" = 1 } in the file. An empty value means: not set.

Credentials may also come from the environment, where neither flag nor file gives them: REDWEIR_NODE_PASSWORD and so on, \
as marked.

For several sets or listeners the file has one [[set]] table for each set and one [[listener]] table for each address, \
with `set = NAME` to say which set it serves; keys above the first table hold for all that do not say otherwise.";

/// One port in front of a Redis or Valkey master and its replicas: splits reads, follows failovers, shows lag.
#[derive(Debug, Parser)]
#[command(version, after_help = LAYOUT, args_conflicts_with_subcommands = true, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub action: Option<Action>,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Validates the configuration and reports what is found at its addresses, then exits
    Check(RunArgs),
    /// Shows everything on loopback: a master, three replicas, three Sentinels and redweir in front of them
    Demo(DemoArgs),
    /// Has a running redweir hand the master's role over to a replica: nothing is lost, and clients only wait a moment
    Switchover(SwitchoverArgs),
    /// Asks a running redweir whether it lives (for a container's HEALTHCHECK)
    Healthcheck(HealthArgs),
}

#[derive(Debug, Clone, PartialEq, Args)]
pub struct HealthArgs {
    /// Its HTTP address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9736")]
    pub admin: std::net::SocketAddr,
}

/// What a planned switchover is to do.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct SwitchoverArgs {
    /// The replica to promote; if not given, the most advanced one (with Sentinel: the one it chooses)
    #[arg(long, value_name = "HOST:PORT")]
    pub to: Option<String>,
    /// The set, where redweir serves several
    #[arg(long, value_name = "NAME")]
    pub set: Option<String>,
    /// redweir's HTTP address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9736")]
    pub admin: std::net::SocketAddr,
    /// Its admin-token. As flag it shows in the process list: prefer the variable or the file
    #[arg(long, value_name = "TOKEN", env = "REDWEIR_ADMIN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File that holds the token
    #[arg(long, value_name = "FILE", conflicts_with = "token", env = "REDWEIR_ADMIN_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Writes are held no longer than this; then everything is put back as it was. Keep it below `hold`
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// What configures a proxy.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// The TOML file; config/redweir.toml shows every setting
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub flags: Flags,
}

/// What the demo does.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct DemoArgs {
    /// Kill the master after this long, show the failover, report and exit
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub kill_master_after: Option<Duration>,
    /// Stop by itself after this long
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// Port of redweir on 127.0.0.1; 0 takes any free port
    #[arg(long, value_name = "PORT", default_value_t = 7379)]
    pub port: u16,
    /// Lines of text instead of a screen
    #[arg(long)]
    pub plain: bool,
}

/// The settings given as flags.
#[derive(Debug, Clone, Default)]
pub struct Flags(Vec<(&'static About, String)>);

impl Flags {
    /// The flags as values, and what is wrong with their form.
    pub(super) fn given(&self, faults: &mut Faults) -> Vec<Given> {
        self.0.iter().map(|(about, text)| Given::text(about.key, about.kind, At::Flag, text, faults)).collect()
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = settings::all().filter(|(_, _, about)| about.everywhere).filter_map(|(_, _, about)| {
            let texts: Vec<&str> = matches.get_many::<String>(about.key)?.map(String::as_str).collect();
            Some((about, texts.join(",")))
        });
        Ok(Self(flags.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let everywhere = settings::all().filter(|(_, _, about)| about.everywhere);
        command.args(everywhere.map(|(heading, _, about)| flag(heading, about)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(heading: &'static str, about: &'static About) -> Arg {
    let mut help = about.help.to_owned();
    if about.env {
        help.push_str(&format!(" [env: {}]", env_name(about.key)));
    }
    if !about.default.is_empty() {
        help.push_str(&format!(" [default: {}]", about.default));
    }
    // Lists may also be given by repeating the flag.
    let action = if about.kind == Kind::One { ArgAction::Set } else { ArgAction::Append };
    Arg::new(about.key).long(about.key).value_name(about.value_name).help(help).help_heading(heading).action(action)
}

/// A complaint of the parser in one line.
pub(super) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<&str> = said.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    let said = said.join("; ").replace("; tip: ", ", ");
    format!("{}; see redweir --help", said.strip_prefix("error: ").unwrap_or(&said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_is_in_the_help() {
        // Lines are broken anywhere.
        let help = Cli::command().render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for (_, _, about) in settings::all() {
            match about.everywhere {
                true => assert!(help.contains(&format!("--{} <{}>", about.key, about.value_name)), "{}", about.key),
                false => assert!(help.contains(&format!("`{} = {}`", about.key, about.value_name)), "{}", about.key),
            }
            let default = format!("[default: {}]", about.default);
            assert!(about.default.is_empty() || help.contains(&default), "{default} of {}", about.key);
        }
    }

    #[test]
    fn demo_arguments() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        let Ok(Cli { action: Some(Action::Demo(demo)), .. }) = parse("redweir demo --kill-master-after 10s") else {
            panic!("no demo");
        };
        let ten = Some(Duration::from_secs(10));
        assert_eq!(demo, DemoArgs { kill_master_after: ten, duration: None, port: 7379, plain: false });
        assert!(parse("redweir --poll 1s demo").is_err());
    }

    #[test]
    fn complaints_take_one_line() {
        let complaint = |line: &str| one_line(&Cli::try_parse_from(line.split(' ')).expect_err("a fault"));
        assert_eq!(
            complaint("redweir --sentinels a:1"),
            "unexpected argument '--sentinels' found, a similar argument exists: '--sentinel'; see redweir --help"
        );
        assert!(complaint("redweir demo --port x").starts_with("invalid value 'x' for '--port <PORT>': "));
    }
}
