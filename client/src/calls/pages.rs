//! Lists that come in pages: one call for each, as its stream is read.

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{answer::ResultStream, client::Client, error::Error};

/// All paths below a folder, page by page as the stream is read.
pub(super) fn paths<P>(
    client: &Client,
    folder: String,
    page: impl Fn(Client, String, String) -> P + Send + 'static,
) -> ResultStream<String>
where
    P: Future<Output = Result<(Vec<String>, String), Error>> + Send + 'static,
{
    let first = Some(String::new());
    stream::try_unfold((client.clone(), first, page), move |(client, token, page)| {
        let folder = folder.clone();
        async move {
            let Some(token) = token else { return Ok::<_, Error>(None) };
            let (paths, next) = page(client.clone(), folder, token).await?;
            let next = Some(next).filter(|token| !token.is_empty());
            Ok(Some((stream::iter(paths.into_iter().map(Ok)), (client, next, page))))
        }
    })
    .try_flatten()
    .boxed()
}
