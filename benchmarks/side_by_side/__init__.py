"""imagecache beside a bare floor and its peers: the same pictures, the same server, a fresh process a sample."""
