"""Laws that hold for every search engine, as classes; a test module names the engine and inherits them."""
