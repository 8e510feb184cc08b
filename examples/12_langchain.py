"""LangChain: a retriever over documents that lie in a folder, with a filter on their metadata.

The collection and its embeddings are the demo's (Cranfield, MiniLM), so that no model is needed.
Needs `pip install 'annvq[langchain]'`.
"""

import tempfile

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

import annvq
from annvq.demo import cranfield
from annvq.integrations.langchain import AnnvqVectorStore

dataset = cranfield.texts()
embedded = cranfield.embeddings(dataset)
known = dict(zip(dataset.documents.values(), embedded.documents))
known |= dict(zip(dataset.queries.values(), embedded.queries))


class Known(Embeddings):
    def embed_documents(self, texts):
        return [known.get(text, embedded.documents[0]).tolist() for text in texts]

    def embed_query(self, text):
        return self.embed_documents([text])[0]


documents = [
    Document(id=id, page_content=text, metadata={"words": len(text.split())}) for id, text in dataset.documents.items()
]
with tempfile.TemporaryDirectory() as folder:
    store = AnnvqVectorStore.from_documents(documents, Known(), path=f"{folder}/abstracts")
    store.collection.close()

    reader = AnnvqVectorStore(Known(), collection=annvq.Collection.open(f"{folder}/abstracts"))
    retriever = reader.as_retriever(search_kwargs={"k": 3, "filter": {"words": {"$lt": 150}}})
    for found in retriever.invoke(next(iter(dataset.queries.values()))):
        print(found.id, found.metadata, found.page_content[:70])
