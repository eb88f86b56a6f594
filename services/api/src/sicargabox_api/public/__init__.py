"""The pages everybody may see: search, a line of the tariff, its chapters. They work without JavaScript.

They stand on the API's own functions, so a page and a program get the same answer and the same limits.
"""
