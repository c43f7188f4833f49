//! Small things that are read and written while somebody waits: Secrets with keys in them, and what was made of them.
//!
//! A thread of its own asks the API server, so that whoever waits needs no runtime, and waits no longer than he can bear.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, mpsc as answers};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::ClientError;
use crate::files::FileError;
use crate::names::STATE;

/// One question to the API server.
const ANSWER: Duration = Duration::from_secs(5);
/// Those that wait before it, too.
const WAIT: Duration = Duration::from_secs(15);
/// Who asks: a handful of parts.
const QUEUE: usize = 64;

/// Documents of a Secret, by name.
pub(super) type Documents = BTreeMap<String, Vec<u8>>;

/// Reads and writes in the operator's own namespace.
#[derive(Clone)]
pub(crate) struct Desk {
    namespace: Arc<str>,
    questions: mpsc::Sender<Question>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum DeskError {
    /// The API server said no.
    #[error("{0}")]
    Client(#[from] kube::Error),
    /// Another writer was faster.
    #[error("somebody else has changed it")]
    Changed,
    /// Nobody answered.
    #[error("the API server does not answer")]
    NoAnswer,
}

type Answer<T> = answers::SyncSender<Result<T, DeskError>>;

enum Question {
    Read(String, Option<String>, Answer<Option<Documents>>),
    Create(String, Documents, Answer<()>),
    Replace(String, (String, Option<Vec<u8>>), Answer<()>),
    Records(Answer<BTreeMap<String, String>>),
    Record((String, Option<String>), Answer<()>),
}

impl Desk {
    /// Opens the desk. `connect` makes a client on the thread that will use it.
    ///
    /// # Errors
    /// There is no client, or no thread.
    pub(crate) async fn open<F>(
        namespace: &str,
        connect: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Self, ClientError>
    where
        F: Future<Output = Result<Client, ClientError>>,
    {
        let (asks, questions) = mpsc::channel(QUEUE);
        let (tell, opened) = tokio::sync::oneshot::channel();
        let own = namespace.to_owned();
        let work = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(ClientError::Thread(error)))),
            };
            runtime.block_on(async move {
                match connect().await {
                    Ok(client) => {
                        let _ = tell.send(Ok(()));
                        Clerk::new(client, &own).work(questions).await;
                    }
                    // Nobody waits any more if it cannot be sent.
                    Err(error) => drop(tell.send(Err(error))),
                }
            });
        };
        std::thread::Builder::new().name("cluster-state".to_owned()).spawn(work).map_err(ClientError::Thread)?;
        let gone = || ClientError::Thread(std::io::ErrorKind::BrokenPipe.into());
        opened.await.unwrap_or_else(|_| Err(gone()))?;
        Ok(Self { namespace: namespace.into(), questions: asks })
    }

    /// How a person finds a thing of the operator's namespace.
    pub(super) fn place(&self, kind: &str, name: &str) -> String {
        format!("{kind} {}/{name}", self.namespace)
    }

    /// What is in a Secret; `None` if there is none of this name. `taken` is the document that the caller takes over, if it is
    /// one: what is written in its place later replaces this version of it and no other.
    pub(super) fn read(&self, secret: &str, taken: Option<&str>) -> Result<Option<Documents>, FileError> {
        let taken = taken.map(str::to_owned);
        self.ask("read", self.place("Secret", secret), |answer| Question::Read(secret.to_owned(), taken, answer))
    }

    /// Makes a Secret. One that is there stays as it is.
    pub(super) fn create(&self, secret: &str, documents: Documents) -> Result<(), FileError> {
        let question = |answer| Question::Create(secret.to_owned(), documents, answer);
        self.ask("create", self.place("Secret", secret), question)
    }

    /// Replaces or removes one document of a Secret that nobody else has changed since it was read.
    pub(super) fn replace(&self, secret: &str, name: &str, bytes: Option<&[u8]>) -> Result<(), FileError> {
        let document = (name.to_owned(), bytes.map(<[u8]>::to_vec));
        let question = |answer| Question::Replace(secret.to_owned(), document, answer);
        self.ask("write", self.place("Secret", secret), question)
    }

    /// What was recorded under a name.
    pub(crate) fn recorded(&self, name: &str) -> Result<Option<String>, FileError> {
        Ok(self.ask("read", self.place("ConfigMap", STATE), Question::Records)?.remove(name))
    }

    /// Records something, for as long as the mesh lives or until it is `None`.
    pub(crate) fn record(&self, name: &str, value: Option<&str>) -> Result<(), FileError> {
        let entry = (name.to_owned(), value.map(str::to_owned));
        self.ask("write", self.place("ConfigMap", STATE), |answer| Question::Record(entry, answer))
    }

    fn ask<T>(
        &self,
        action: &'static str,
        object: String,
        question: impl FnOnce(Answer<T>) -> Question,
    ) -> Result<T, FileError> {
        let (tell, answer) = answers::sync_channel(1);
        let asked = self.questions.try_send(question(tell)).map_err(|_| DeskError::NoAnswer);
        let answered = asked.and_then(|()| answer.recv_timeout(WAIT).unwrap_or(Err(DeskError::NoAnswer)));
        answered.map_err(|error| match error {
            DeskError::Changed => FileError::Changed { object },
            error => FileError::Cluster { action, object, detail: error.to_string() },
        })
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Who answers, one question after the other.
struct Clerk {
    secrets: Api<Secret>,
    records: Api<ConfigMap>,
    /// The version of its Secret at which each document was read or written last, by both names.
    versions: HashMap<(String, String), String>,
}

impl Clerk {
    fn new(client: Client, namespace: &str) -> Self {
        let secrets = Api::namespaced(client.clone(), namespace);
        Self { secrets, records: Api::namespaced(client, namespace), versions: HashMap::new() }
    }

    async fn work(mut self, mut questions: mpsc::Receiver<Question>) {
        while let Some(question) = questions.recv().await {
            // Whoever has given up does not read the answer.
            match question {
                Question::Read(name, taken, answer) => drop(answer.send(within(self.read(name, taken)).await)),
                Question::Create(name, documents, answer) => {
                    drop(answer.send(within(self.create(name, documents)).await));
                }
                Question::Replace(name, document, answer) => {
                    drop(answer.send(within(self.replace(name, document)).await));
                }
                Question::Records(answer) => drop(answer.send(within(self.records()).await)),
                Question::Record(entry, answer) => drop(answer.send(within(self.record(entry)).await)),
            }
        }
    }

    async fn read(&mut self, name: String, taken: Option<String>) -> Result<Option<Documents>, DeskError> {
        let Some(secret) = self.secrets.get_opt(&name).await? else { return Ok(None) };
        if let Some(document) = taken {
            self.note((name, document), &secret);
        }
        let data = secret.data.unwrap_or_default().into_iter();
        Ok(Some(data.map(|(name, ByteString(bytes))| (name, bytes)).collect()))
    }

    async fn create(&mut self, name: String, documents: Documents) -> Result<(), DeskError> {
        let names: Vec<String> = documents.keys().cloned().collect();
        let data = documents.into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect();
        let metadata = ObjectMeta { name: Some(name.clone()), labels: Some(labels()), ..ObjectMeta::default() };
        let secret = Secret { metadata, data: Some(data), ..Secret::default() };
        match self.secrets.create(&PostParams::default(), &secret).await {
            Ok(made) => names.into_iter().for_each(|document| self.note((name.clone(), document), &made)),
            Err(kube::Error::Api(status)) if status.code == CONFLICT => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn replace(&mut self, name: String, (document, bytes): (String, Option<Vec<u8>>)) -> Result<(), DeskError> {
        // With the version that we know: a change that we have not seen is never lost.
        let key = (name, document);
        let data = json!({ &key.1: bytes.map(ByteString) });
        let patch = json!({ "metadata": { "resourceVersion": self.versions.get(&key) }, "data": data });
        match self.secrets.patch(&key.0, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(changed) => self.note(key, &changed),
            Err(kube::Error::Api(status)) if status.code == CONFLICT => return Err(DeskError::Changed),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn records(&mut self) -> Result<BTreeMap<String, String>, DeskError> {
        let record = self.records.get_opt(STATE).await?;
        Ok(record.and_then(|record| record.data).unwrap_or_default())
    }

    async fn record(&mut self, (name, value): (String, Option<String>)) -> Result<(), DeskError> {
        let record = ConfigMap {
            metadata: ObjectMeta { name: Some(STATE.to_owned()), labels: Some(labels()), ..ObjectMeta::default() },
            ..ConfigMap::default()
        };
        match self.records.create(&PostParams::default(), &record).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == CONFLICT => {}
            Err(error) => return Err(error.into()),
        }
        let patch = json!({ "data": { name: value } });
        self.records.patch(STATE, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    fn note(&mut self, key: (String, String), secret: &Secret) {
        self.versions.extend(secret.resource_version().map(|version| (key, version)));
    }
}

/// There is one of this name, or another version of it (RFC 9110 section 15.5.10).
const CONFLICT: u16 = 409;

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app.kubernetes.io/part-of".to_owned(), "fapi-mesh".to_owned())])
}

async fn within<T>(answer: impl Future<Output = Result<T, DeskError>>) -> Result<T, DeskError> {
    timeout(ANSWER, answer).await.unwrap_or(Err(DeskError::NoAnswer))
}
