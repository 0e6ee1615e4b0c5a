//! An HTTP server that answers as a test tells it to, on loopback.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<u64>,
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
}

pub(crate) enum Answer {
    Bytes(Vec<u8>),
    /// These headers, this status, this body.
    Full(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Promises all, sends so many bytes, hangs up.
    Cut(Vec<u8>, usize),
    /// From an offset on, as asked for.
    Range(Vec<u8>, u64),
    /// Promises all, sends so many bytes, says nothing more.
    Stall(Vec<u8>, usize),
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Ends with the process.
    pub(crate) fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, script): (_, Arc<Script>) = (Arc::clone(&asked), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (noted, script) = (Arc::clone(&noted), Arc::clone(&script));
                std::thread::spawn(move || serve(stream, &noted, &*script));
            }
        });
        Server { port, asked }
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }
}

fn serve(stream: TcpStream, noted: &Mutex<Vec<Asked>>, script: &Script) -> Option<()> {
    use std::io::Read as _;
    let mut output = stream.try_clone().ok()?;
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    input.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let mut asked = Asked {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        range: None,
        authorization: None,
        body: String::new(),
    };
    let mut length = 0;
    loop {
        line.clear();
        input.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        match name.to_lowercase().as_str() {
            "range" => {
                asked.range = value
                    .trim_start_matches("bytes=")
                    .trim_end_matches('-')
                    .parse()
                    .ok()
            }
            "authorization" => asked.authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    input.take(length).read_to_string(&mut asked.body).ok()?;
    noted.lock().unwrap().push(asked.clone());
    let mut send = |status: u16, headers: &[(&str, String)], length: usize, body: &[u8]| {
        let mut head =
            format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        output.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        output.write_all(body).ok()?;
        output.flush().ok()
    };
    match script(&asked) {
        Answer::Bytes(body) => send(200, &[], body.len(), &body),
        Answer::Full(status, headers, body) => send(status, &headers, body.len(), &body),
        Answer::Cut(body, count) => send(200, &[], body.len(), &body[..count]),
        Answer::Range(body, from) => {
            let rest = &body[usize::try_from(from).unwrap()..];
            let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
            send(206, &[("content-range", range)], rest.len(), rest)
        }
        Answer::Stall(body, count) => {
            send(200, &[], body.len(), &body[..count])?;
            // Until the other side gives up.
            let mut end = Vec::new();
            output.read_to_end(&mut end).ok().map(|_| ())
        }
    }
}
