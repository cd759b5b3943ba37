//! A way to one server that can be cut: what comes in goes on, until it is cut.

use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub struct Forwarder {
    pub address: String,
    to: u16,
    running: Mutex<Option<JoinHandle<()>>>,
}

pub async fn start(to: u16) -> Forwarder {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    Forwarder { address, to, running: Mutex::new(Some(tokio::spawn(serve(listener, to)))) }
}

impl Forwarder {
    /// Closes every connection and refuses new ones.
    pub fn cut(&self) {
        if let Some(running) = self.running.lock().unwrap().take() {
            running.abort();
        }
    }

    pub async fn mend(&self) {
        let address: SocketAddr = self.address.parse().unwrap();
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                // Its last owner is still on its way out.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        };
        *self.running.lock().unwrap() = Some(tokio::spawn(serve(listener, self.to)));
    }
}

async fn serve(listener: TcpListener, to: u16) {
    // Ends with this task.
    let mut links = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        links.spawn(async move {
            if let Ok(mut on) = TcpStream::connect(("127.0.0.1", to)).await {
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut on).await;
            }
        });
    }
}
