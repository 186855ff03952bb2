//! A client of the drone's socket that sends exactly what it is told to.

use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// An answer on the socket.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    /// Reads one whole answer from these bytes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(bytes).ok()? else {
            return None;
        };
        let headers = response.headers.iter().map(|header| {
            let value = String::from_utf8_lossy(header.value).into_owned();
            (header.name.to_ascii_lowercase(), value)
        });
        Some(Self {
            status: response.code?,
            headers: headers.collect(),
            body: String::from_utf8_lossy(&bytes[length..]).into_owned(),
        })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is not.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Asserts that this is an error as the contract has it, and gives its code.
    #[track_caller]
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        let json = self.json();
        let error = &json["error"];
        assert!(
            error["message"].as_str().is_some_and(|text| text.len() > 5),
            "{self:?}"
        );
        assert_eq!(json.as_object().unwrap().len(), 1, "{self:?}");
        assert_eq!(error.as_object().unwrap().len(), 2, "{self:?}");
        error["code"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn retry_after(&self) -> u64 {
        self.header("retry-after")
            .expect("Retry-After")
            .parse()
            .unwrap()
    }
}

/// Sends these bytes and reads until the other side closes.
pub async fn raw(socket: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    // One that answers early may have closed already.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

/// One request and its answer.
pub async fn ask(socket: &Path, method: &str, target: &str, headers: &str) -> Reply {
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n"
    );
    let bytes = raw(socket, request.as_bytes()).await;
    Reply::parse(&bytes).unwrap_or_else(|| panic!("no answer to {target}: {bytes:?}"))
}
