"""The catalog's part of /api/v1/, on the same services, selectors and policies as the pages."""
