"""The data files that come with teachvae; `teachvae.datasets` reads them, README.md says whose they are."""
