/// A request as it arrived, and what became of it.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// 0 until the answer's head is written, and for a connection that was dropped without one.
    pub status: u16,
    pub sent_bytes: u64,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
pub(super) struct Record {
    requests: Vec<Request>,
    /// Counts [`Record::clear`], so that an answer still under way does not write into another request's line.
    generation: usize,
}

/// Where one request's line is.
#[derive(Clone, Copy)]
pub(super) struct Line {
    generation: usize,
    index: usize,
}

impl Record {
    pub(super) fn begin(&mut self, request: Request) -> Line {
        self.requests.push(request);
        Line { generation: self.generation, index: self.requests.len() - 1 }
    }

    pub(super) fn status(&mut self, line: Line, status: u16) {
        if let Some(request) = self.at(line) {
            request.status = status;
        }
    }

    pub(super) fn sent(&mut self, line: Line, bytes: u64) {
        if let Some(request) = self.at(line) {
            request.sent_bytes += bytes;
        }
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.clone()
    }

    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.generation += 1;
    }

    fn at(&mut self, line: Line) -> Option<&mut Request> {
        if line.generation != self.generation {
            return None;
        }
        self.requests.get_mut(line.index)
    }
}
