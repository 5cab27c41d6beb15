// InventoryManifest
