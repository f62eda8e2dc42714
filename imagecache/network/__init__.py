"""The network: from a request to the bounded bytes of its answer. Importing a module of this room imports aiohttp
where it needs it; this file imports nothing, so that settings can be read without it.
"""
