"Is it any good?"
