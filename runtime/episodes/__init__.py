"""Recorded episodes behind one small type: frames, actions, time stamps, instruction."""
