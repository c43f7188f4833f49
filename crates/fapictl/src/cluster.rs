//! The API server of a cluster, as `check` and `status` ask it. Every question has a deadline, and no answer is an answer too:
//! what a user may not see is told, and the rest is looked at all the same.

mod custom;
mod remedies;
#[cfg(test)]
pub(crate) mod testing;
mod workloads;

use std::fmt::Debug;
use std::time::Duration;

use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

pub(crate) use self::custom::{Custom, Kind, is_true, would_refuse};
pub(crate) use self::remedies::remedy;
pub(crate) use self::workloads::{Scope, Workloads, key, replicas, seen};
use crate::args::ConnectionArgs;
use crate::failure::{Failure, OrFail, with_sources};

const CONNECT: Duration = Duration::from_secs(5);
/// One question, with everything that is tried again.
pub(crate) const ANSWER: Duration = Duration::from_secs(15);
/// Objects of one answer.
const PAGE: u32 = 500;
/// Answers of one list: half a million objects.
const PAGES: usize = 1000;

const REMEDY: &str = "check --context, --kubeconfig and KUBECONFIG: kubectl must get an answer with the same";

/// Why something could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// There is no such object, or no such kind.
    Absent,
    /// The user may not look at it.
    Forbidden(String),
    /// There was no answer, or none that can be read.
    Failed(String),
}

/// What was asked for, or why it could not be looked at.
pub(crate) type Seen<T> = Result<T, Unseen>;

/// A cluster and a user of it.
pub(crate) struct Cluster {
    client: Client,
    url: String,
    /// The namespace of the context.
    pub(crate) namespace: String,
}

impl Cluster {
    /// The cluster that flags and environment name. Nothing is asked yet.
    pub(crate) async fn connect(args: &ConnectionArgs) -> Result<Self, Failure> {
        let mut config = configuration(args).await?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(ANSWER);
        let namespace = config.default_namespace.clone();
        let url = config.cluster_url.to_string();
        let client = Client::try_from(config).or_fail("the cluster cannot be called", &url, REMEDY)?;
        Ok(Self { client, url, namespace })
    }

    /// Its client, for one question through [`ask`].
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The version of the API server, such as `v1.37.1`. Without an answer to this there is no use in asking more.
    pub(crate) async fn version(&self) -> Result<Version, Failure> {
        let info = match ask(self.client.apiserver_version()).await {
            Ok(info) => info,
            Err(unseen) => return Err(Failure::new(unseen.said("the API server does not answer"), &self.url, REMEDY)),
        };
        let minor = info.minor.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or_default();
        Ok(Version { major: info.major.parse().unwrap_or_default(), minor, name: info.git_version })
    }
}

/// The version of an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// As it says it.
    pub(crate) name: String,
}

async fn configuration(args: &ConnectionArgs) -> Result<Config, Failure> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let place = args.kubeconfig.as_ref().map_or_else(|| "the kubeconfig".to_owned(), |file| file.display().to_string());
    match (&args.kubeconfig, &args.context) {
        (Some(file), _) => {
            let kubeconfig = Kubeconfig::read_from(file).or_fail("cannot read it", &place, REMEDY)?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await.or_fail("no cluster is known", place, REMEDY)
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await.or_fail("no cluster is known", place, REMEDY),
        (None, None) => Config::infer().await.or_fail("no cluster is known", place, REMEDY),
    }
}

/// Puts one question, with a deadline.
pub(crate) async fn ask<T>(question: impl Future<Output = Result<T, kube::Error>>) -> Seen<T> {
    match timeout(ANSWER, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(Unseen::Absent),
        Ok(Err(kube::Error::Api(status))) if [401, 403].contains(&status.code) => {
            Err(Unseen::Forbidden(status.message.clone()))
        }
        Ok(Err(kube::Error::Api(status))) => Err(Unseen::Failed(status.message.clone())),
        Ok(Err(error)) => Err(Unseen::Failed(with_sources(&error))),
        Err(_) => Err(Unseen::Failed(format!("no answer in {} seconds", ANSWER.as_secs()))),
    }
}

/// Everything that a list has, a page after the other, each with a deadline.
pub(crate) async fn list<K>(api: &Api<K>, params: &ListParams) -> Seen<Vec<K>>
where
    K: Clone + Debug + DeserializeOwned,
{
    let (mut items, mut params) = (Vec::new(), params.clone().limit(PAGE));
    for _ in 0..PAGES {
        let page = ask(api.list(&params)).await?;
        items.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(items),
        }
    }
    Err(Unseen::Failed("the list does not end".to_owned()))
}

impl Unseen {
    /// What was to be looked at, and why it could not be.
    pub(crate) fn said(&self, what: &str) -> String {
        match self {
            Self::Absent => format!("{what} is not there"),
            Self::Forbidden(why) | Self::Failed(why) => format!("{what}: {why}"),
        }
    }
}
