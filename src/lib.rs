//! redweir: one port in front of a Redis or Valkey master and its replicas.
//!
//! # Architecture map
//!
//! A request's way, in hops: accept ([`server`]) -> bytes to a request ([`resp`]) -> what it is ([`command`]) -> what the
//! session's state makes of it ([`session`]) -> which node ([`route`]) -> one memcpy into that node's shared connection
//! ([`upstream`]) -> the reply is found by its length, not decoded ([`resp`]) -> and handed on, in order ([`session`]).
//!
//! Who is master is decided elsewhere: [`discovery`] watches Sentinels and nodes on a runtime of its own and is the only
//! owner of the [`topology`] publisher. Sessions and discovery never call each other: they meet in the snapshot, and trouble
//! seen on the data path travels back as a hint ([`topology::View::suspect`]).
//!
//! Imports point one way, in the order of the `mod` lines below; `tests/tidy.rs` enforces it.

#![forbid(unsafe_code)]

pub mod config;
pub mod metrics;
pub mod resp;

pub mod command;

pub mod upstream;

pub mod topology;

pub mod route;

pub mod discovery;
pub mod session;

pub mod admin;
pub mod server;

pub mod app;
pub mod demo;
