"""Does a population that changes its settings while it trains find better students than random search?"""
