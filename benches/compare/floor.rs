//! `floor`: a server that answers every command itself, so that it costs what client-side sockets alone cost.
//!
//! No proxy on tokio can be cheaper than this per request. One current-thread runtime and one task per client, one read
//! and one write a turn, like the client side of a worker. Must not grow features: each would move the yardstick.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::requests::{Answer, Requests};

/// As large as a worker's read buffer, and like it shared by all clients.
const SCRATCH_BYTES: usize = 64 * 1024;
const BACKLOG: u32 = 4096;

/// What all clients share: one buffer to read into, and the reply to GET.
struct Shared {
    scratch: RefCell<Vec<u8>>,
    value: Vec<u8>,
}

/// Serves until it is killed. GET is answered with `value_bytes` bytes, SET and the rest with `+OK`.
pub fn run(port: u16, value_bytes: usize) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build_local(Default::default())?;
    runtime.block_on(serve(port, value_bytes))
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(BACKLOG)
}

async fn serve(port: u16, value_bytes: usize) -> io::Result<()> {
    let listener = listen(port)?;
    let mut value = format!("${value_bytes}\r\n").into_bytes();
    value.resize(value.len() + value_bytes, b'x');
    value.extend_from_slice(b"\r\n");
    let shared = Rc::new(Shared { scratch: RefCell::new(vec![0; SCRATCH_BYTES]), value });
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                let shared = shared.clone();
                // A client that goes away ends its own task and nothing else.
                tokio::task::spawn_local(async move { drop(client(stream, &shared).await) });
            }
            // Callgrind writes its figures at a normal end only.
            _ = terminate.recv() => return Ok(()),
        }
    }
}

async fn client(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut requests = Requests::default();
    let mut replies = Vec::new();
    while turn(&mut stream, shared, &mut requests, &mut replies).await? {
        if !replies.is_empty() {
            stream.write_all(&replies).await?;
            replies.clear();
        }
    }
    Ok(())
}

/// One read and its answers; false at the end of the stream.
async fn turn(
    stream: &mut TcpStream,
    shared: &Shared,
    requests: &mut Requests,
    replies: &mut Vec<u8>,
) -> io::Result<bool> {
    poll_fn(|cx| {
        let mut scratch = shared.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        requests.scan(buffer.filled(), |answer| {
            replies.extend_from_slice(match answer {
                Answer::Value => &shared.value,
                Answer::Ok => b"+OK\r\n",
                Answer::Pong => b"+PONG\r\n",
            });
        });
        Poll::Ready(Ok(!buffer.filled().is_empty()))
    })
    .await
}
